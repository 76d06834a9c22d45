// Segment sum: out[s, d] = sum of values[n, d] over the rows n with segments[n] == s.
//
// It undoes a look-up (token projection, embedding). Atomic additions would come in any order; here
// the rows of a segment are first listed in their own order, and then summed in one that is fixed:
//
//     (1)  starts[s] = number of rows n with segments[n] < s
//     (2)  order[starts[s] + k] = the k-th row, counted from row 0, with segments[n] == s
//     (3)  partial[j, d] = sum over k = j, j + LANES, ...  of values[order[starts[s] + k], d]
//     (4)  out[s, d] = partial[0, d] + partial[1, d] + ... + partial[LANES - 1, d]

#ifndef REAL
#define REAL float
#endif
#define THREADS 256
#define COLUMNS 32
#define LANES (THREADS / COLUMNS)

// (1) and (2), a stable counting sort: a block lists one segment. blockDim.x is THREADS, gridDim.x
// the number of segments. Each thread looks through a run of rows of its own.
extern "C" __global__ void segment_order(
    const long long* segments, int rows, int* order, int* starts) {
  __shared__ int below[THREADS], equal[THREADS];
  int thread = threadIdx.x, mine = blockIdx.x;
  int run = (rows + THREADS - 1) / THREADS;
  int from = thread * run < rows ? thread * run : rows;
  int to = from + run < rows ? from + run : rows;
  int smaller = 0, same = 0;
  for (int n = from; n < to; ++n) {
    smaller += segments[n] < mine;
    same += segments[n] == mine;
  }
  below[thread] = smaller;
  equal[thread] = same;
  __syncthreads();
  for (int reach = 1; reach < THREADS; reach *= 2) {  // sums over all threads up to this one
    int more_below = thread >= reach ? below[thread - reach] : 0;
    int more_equal = thread >= reach ? equal[thread - reach] : 0;
    __syncthreads();
    below[thread] += more_below;
    equal[thread] += more_equal;
    __syncthreads();
  }
  int start = below[THREADS - 1];
  if (thread == 0) {
    starts[mine] = start;  // (1)
    if (mine + 1 == (int)gridDim.x) starts[mine + 1] = start + equal[THREADS - 1];
  }
  int place = start + equal[thread] - same;
  for (int n = from; n < to; ++n) {
    if (segments[n] == mine) order[place++] = n;  // (2)
  }
}

// (3) and (4): a block sums COLUMNS columns of one segment. blockDim.x is THREADS, gridDim.x the
// number of segments, gridDim.y that of the tiles of COLUMNS columns.
extern "C" __global__ void segment_sum(
    const REAL* values, const int* order, const int* starts, REAL* out, int columns) {
  __shared__ REAL partial[THREADS];
  int segment = blockIdx.x, lane = threadIdx.x / COLUMNS;
  int column = blockIdx.y * COLUMNS + threadIdx.x % COLUMNS;
  REAL sum = 0;
  if (column < columns) {
    for (int k = starts[segment] + lane; k < starts[segment + 1]; k += LANES) {
      sum += values[(long long)order[k] * columns + column];  // (3)
    }
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  if (lane == 0 && column < columns) {
    for (int other = 1; other < LANES; ++other) sum += partial[other * COLUMNS + threadIdx.x];  // (4)
    out[(long long)segment * columns + column] = sum;
  }
}
