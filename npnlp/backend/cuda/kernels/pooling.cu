// Poolings over the steps of packed sequences. Step t of sequence b is row offsets[t] + b, and is
// there where b < sizes[t]; sequences are sorted, the longest first.
//
//     (1)  rows[b, d] = row of the largest x[n, d] of sequence b; of several the first; NaN is larger
//     (2)  m = max e_n,  s = sum exp(e_n - m)            over the steps n of one sequence
//     (3)  alpha_n = exp(e_n - m) / s
//
// Backward, of a sequence:
//
//     undoes (3), (2)    de_n = alpha_n dalpha_n - alpha_n sum_m alpha_m dalpha_m
//
// Rows behind the last step of all belong to no sequence; their alpha and de are zero.

#include "over_block.cuh"

// (1): a thread for each feature of each sequence.
extern "C" __global__ void first_largest(
    const REAL* x, const int* offsets, const int* sizes, int batch, int steps, int features,
    long long* rows) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)batch * features) return;
  int b = i / features, d = i % features;
  long long found = b;
  REAL top = x[found * features + d];
  for (int t = 1; t < steps && b < sizes[t] && top == top; ++t) {
    long long row = offsets[t] + b;
    REAL now = x[row * features + d];
    if (now > top || now != now) {
      top = now;
      found = row;
    }
  }
  rows[i] = found;
}

// Zero for the rows of no sequence. The blocks of all sequences share them.
__device__ void clear_spare(REAL* to, const int* offsets, const int* sizes, int steps, int rows) {
  int first = offsets[steps - 1] + sizes[steps - 1] + blockIdx.x * THREADS + threadIdx.x;
  for (int n = first; n < rows; n += gridDim.x * THREADS) to[n] = 0;
}

// (2) and (3): a block a sequence. blockDim.x is THREADS, gridDim.x is B.
extern "C" __global__ void softmax_of_steps(
    const REAL* e, const int* offsets, const int* sizes, int steps, int rows, REAL* alpha) {
  __shared__ REAL shared[THREADS];
  int b = blockIdx.x;
  REAL top = e[b], sum = 0;
  for (int t = threadIdx.x; t < steps && b < sizes[t]; t += THREADS) {
    REAL now = e[offsets[t] + b];
    top = top >= now || top != top ? top : now;
  }
  top = over_block(top, true, shared);
  for (int t = threadIdx.x; t < steps && b < sizes[t]; t += THREADS) {
    REAL now = exp(e[offsets[t] + b] - top);
    alpha[offsets[t] + b] = now;  // a thread reads only what it wrote itself
    sum += now;
  }
  sum = over_block(sum, false, shared);  // (2)
  for (int t = threadIdx.x; t < steps && b < sizes[t]; t += THREADS) {
    alpha[offsets[t] + b] /= sum;  // (3)
  }
  clear_spare(alpha, offsets, sizes, steps, rows);
}

// Undoes (3) and (2); the grid is that of softmax_of_steps.
extern "C" __global__ void softmax_of_steps_backward(
    const REAL* d_alpha, const REAL* alpha, const int* offsets, const int* sizes, int steps,
    int rows, REAL* d_e) {
  __shared__ REAL shared[THREADS];
  int b = blockIdx.x;
  REAL sum = 0;
  for (int t = threadIdx.x; t < steps && b < sizes[t]; t += THREADS) {
    int row = offsets[t] + b;
    sum += alpha[row] * d_alpha[row];
  }
  sum = over_block(sum, false, shared);
  for (int t = threadIdx.x; t < steps && b < sizes[t]; t += THREADS) {
    int row = offsets[t] + b;
    d_e[row] = alpha[row] * d_alpha[row] - alpha[row] * sum;
  }
  clear_spare(d_e, offsets, sizes, steps, rows);
}
