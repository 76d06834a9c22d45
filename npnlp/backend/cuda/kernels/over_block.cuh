// A number of each thread of a block becomes one, by a tree of fixed shape: the same bits every time.

#ifndef REAL
#define REAL float
#endif
#define THREADS 128

// The sum, or the largest, of one number a thread; every thread gets it.
__device__ REAL over_block(REAL mine, bool largest, REAL* shared) {
  int thread = threadIdx.x;
  shared[thread] = mine;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (thread < half) {
      REAL a = shared[thread], b = shared[thread + half];
      shared[thread] = largest ? (a >= b || a != a ? a : b) : a + b;  // NaN stays NaN
    }
    __syncthreads();
  }
  REAL found = shared[0];
  __syncthreads();  // so that nobody writes over it before all have read it
  return found;
}
