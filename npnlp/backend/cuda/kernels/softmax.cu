// Softmax cross-entropy of a batch of logits z (B, C) at the targets y (B,), and its gradient.
//
//     (1)  e_c = exp(z_c - max z)                     the shift keeps exp in range
//     (2)  s   = sum_c e_c,   p_c = e_c / s
//     (3)  l   = log s - (z_y - max z)                what a row loses
//
// Backward, from a_b = dL/dl_b:
//
//     undoes (3), (2), (1)    dL/dz_c = a_b (p_c - [c == y])
//
// A block computes a row, with a tree of fixed shape over its threads: the same bits every time.

#include "over_block.cuh"

struct Row {
  REAL top, sum;
};

// (1), and the sum of (2): e_c of the row `z` into `e`; every thread gets the largest z_c and the sum.
__device__ Row exponentials(const REAL* z, REAL* e, int columns, REAL* shared) {
  REAL top = z[0], sum = 0;
  for (int c = threadIdx.x; c < columns; c += THREADS)
    top = top >= z[c] || top != top ? top : z[c];
  top = over_block(top, true, shared);
  for (int c = threadIdx.x; c < columns; c += THREADS) {
    e[c] = exp(z[c] - top);  // (1), which a thread reads only where it wrote it itself
    sum += e[c];
  }
  return {top, over_block(sum, false, shared)};
}

// blockDim.x is THREADS, gridDim.x is B.
extern "C" __global__ void softmax_losses(
    const REAL* logits, const long long* targets, REAL* probabilities, REAL* losses, int columns) {
  __shared__ REAL shared[THREADS];
  long long row = blockIdx.x, base = row * columns;
  const Row found = exponentials(logits + base, probabilities + base, columns, shared);
  for (int c = threadIdx.x; c < columns; c += THREADS)
    probabilities[base + c] /= found.sum;  // (2)
  if (threadIdx.x == 0) losses[row] = log(found.sum) - (logits[base + targets[row]] - found.top);  // (3)
}

// `scales` is a_b: one a row with stride 1, one for all with stride 0; NULL where it is `scale`.
extern "C" __global__ void softmax_losses_backward(
    const REAL* probabilities, const long long* targets, const REAL* scales, int stride,
    REAL scale, REAL* d_logits, long long count, int columns) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  long long row = i / columns;
  REAL hit = i - row * columns == targets[row] ? 1 : 0;
  REAL a = scales ? scales[row * stride] : scale;
  d_logits[i] = (probabilities[i] - hit) * a;  // undoes (3), (2), (1)
}

// The head of a classifier: the losses l (B,), whether each row is largest at its target, the first of
// several, and `scale` dL/dz, as softmax_losses and its backward pass have them. blockDim.x is
// THREADS, gridDim.x is B.
extern "C" __global__ void softmax_head(
    const REAL* logits, const long long* targets, REAL scale, REAL* losses, bool* right,
    REAL* d_logits, int columns) {
  __shared__ REAL shared[THREADS];
  long long row = blockIdx.x, base = row * columns, target = targets[row];
  REAL at_target = logits[base + target], ahead = 0;
  for (int c = threadIdx.x; c < columns; c += THREADS) {
    REAL z = logits[base + c];
    ahead += z > at_target || (z == at_target && c < target);
  }
  ahead = over_block(ahead, false, shared);
  const Row found = exponentials(logits + base, d_logits + base, columns, shared);
  for (int c = threadIdx.x; c < columns; c += THREADS) {
    REAL p = d_logits[base + c] / found.sum;  // (2)
    d_logits[base + c] = (p - (c == target ? 1 : 0)) * scale;  // undoes (3), (2), (1)
  }
  if (threadIdx.x == 0) {
    losses[row] = log(found.sum) - (at_target - found.top);  // (3)
    right[row] = ahead == 0;
  }
}

// The sum of all losses, and how many rows are right. One block of THREADS.
extern "C" __global__ void head_totals(
    const REAL* losses, const bool* right, int rows, REAL* loss_sum, long long* correct) {
  __shared__ REAL shared[THREADS];
  __shared__ int counts[THREADS];
  REAL sum = 0;
  int count = 0;
  for (int row = threadIdx.x; row < rows; row += THREADS) {
    sum += losses[row];
    count += right[row];
  }
  counts[threadIdx.x] = count;
  sum = over_block(sum, false, shared);
  if (threadIdx.x > 0) return;
  *loss_sum = sum;
  count = 0;
  for (int other = 0; other < THREADS; ++other) count += counts[other];
  *correct = count;
}
