// The loop over time of a GRU with the reset before the product; see npnlp/layers/recurrent/gru.py. A
// step needs two products, the second of what the first gave, so it is two launches each way; captured
// in a graph, they cost the host nothing.
//
//     (1)  r, z = sigma(u + W_rz h')    h' = h_{t-1}; u and W_rz come negated: sigma(a) = 1 / (1 + e^-a)
//     (2)  m = r h'
//     (3)  n = tanh(u_n + W_n m)
//     (4)  h = n + z (h' - n)
//
// Backward, with d = dL/dh of a step, and delta = dL/da of r, z and n:
//
//     undoes (4)    d_z = d (h' - n) z (1 - z),  delta_n = d (1 - z)(1 - n^2),  dh' = d z
//     undoes (3)    d_m = W_n^T delta_n
//     undoes (2)    delta_r = d_m h' r (1 - r) = d_m m (1 - r),  dh' += d_m r
//     undoes (1)    dh' += W_rz^T [delta_r, delta_z]
//
// A block has TILE sequences and TILE columns of a product. A step may have no rows, and the arrays
// more rows than the steps have: those of hidden, m and delta become zero.

#include "product.cuh"

// The rows of step t, and of the step before in `state`, or else the initial ones, or NULL.
__device__ const REAL* before_step(
    const REAL* state, const REAL* initial, const int* offsets, int t, int size) {
  return t > 0 ? state + (long long)offsets[t - 1] * size : initial;
}

__device__ void clear_spare(
    REAL* array, int columns, long long rows, const int* offsets, const int* sizes, int steps) {
  long long first = (long long)blockIdx.y * gridDim.x + blockIdx.x, step = THREADS;
  long long all = (long long)gridDim.x * gridDim.y * THREADS;
  long long used = (long long)(offsets[steps - 1] + sizes[steps - 1]) * columns;
  for (long long i = used + first * step + threadIdx.y * SIDE + threadIdx.x; i < rows * columns;
       i += all) {
    array[i] = 0;
  }
}

// (1) and (2) of step t. `gates (3, N, H)`: u on entry; gridDim.x counts tiles of 2 H columns.
extern "C" __global__ void reset_gates(
    REAL* gates, REAL* reset, const REAL* hidden, long long rows, const REAL* w_hh,
    const REAL* initial, const int* offsets, const int* sizes, int size, int steps, int t) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  if (t == 0) clear_spare(reset, size, rows, offsets, sizes, steps);
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE, here = sizes[t];
  if (row >= here) return;
  const REAL* before = before_step(hidden, initial, offsets, t, size);
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  if (before) {
    Strided a = {before, size, 1}, b = {w_hh, 1, size};
    add_tile(a, b, row, column, here, 2 * size, 0, size, left, right, sums, lines);
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int b = row + threadIdx.y + SIDE * i, n = column + threadIdx.x + SIDE * j;
      if (b >= here || n >= 2 * size) continue;
      int gate = n / size, unit = n % size;
      long long place = (offsets[t] + b) * (long long)size + unit, own = gate * rows * size + place;
      REAL sigma = 1 / (1 + exp(gates[own] + sums[i][j]));  // (1)
      gates[own] = sigma;
      if (gate == 0) reset[place] = before ? sigma * before[(long long)b * size + unit] : (REAL)0;  // (2)
    }
}

// (3) and (4) of step t; gridDim.x counts tiles of H columns.
extern "C" __global__ void new_state(
    REAL* gates, const REAL* reset, REAL* hidden, long long rows, const REAL* w_hh,
    const REAL* initial, const int* offsets, const int* sizes, int size, int steps, int t) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  if (t == 0) clear_spare(hidden, size, rows, offsets, sizes, steps);
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE, here = sizes[t];
  if (row >= here) return;
  const REAL* before = before_step(hidden, initial, offsets, t, size);
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  Strided a = {reset + (long long)offsets[t] * size, size, 1};
  Strided b = {w_hh + 2LL * size * size, 1, size};
  if (before) add_tile(a, b, row, column, here, size, 0, size, left, right, sums, lines);
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int b = row + threadIdx.y + SIDE * i, unit = column + threadIdx.x + SIDE * j;
      if (b >= here || unit >= size) continue;
      long long place = (offsets[t] + b) * (long long)size + unit, all = rows * size;
      REAL n = tanh(gates[2 * all + place] + sums[i][j]), z = gates[all + place];  // (3)
      REAL h = before ? before[(long long)b * size + unit] : (REAL)0;
      gates[2 * all + place] = n;
      hidden[place] = n + z * (h - n);  // (4)
    }
}

// Undoes (1) of step t + 1 and (4) of step t; t = -1: dL/d of the initial states. `d_states (B, H)`
// holds what of dL/dh' passes (1) by; `kept` gets dL/dh of every row, where it is given.
extern "C" __global__ void undo_new_state(
    const REAL* gates, const REAL* hidden, long long rows, const REAL* w_hh, const REAL* d_hidden,
    REAL* d_states, REAL* delta, REAL* kept, const REAL* initial, const int* offsets,
    const int* sizes, int size, int steps, int t) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  if (t == 0) clear_spare(delta, 3 * size, rows, offsets, sizes, steps);
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE, here = sizes[t < 0 ? 0 : t];
  int later = t + 1 < steps ? sizes[t + 1] : 0;
  if (row >= here) return;
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  if (row < later) {
    Strided a = {delta + offsets[t + 1] * 3LL * size, 3 * size, 1}, b = {w_hh, size, 1};
    add_tile(a, b, row, column, later, size, 0, 2 * size, left, right, sums, lines);
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int b = row + threadIdx.y + SIDE * i, unit = column + threadIdx.x + SIDE * j;
      if (b >= here || unit >= size) continue;
      long long state = (long long)b * size + unit;
      REAL d = d_states[state] + sums[i][j];  // undoes (1)
      if (t >= 0) {
        long long line = offsets[t] + b, place = line * size + unit, all = rows * size;
        const REAL* before = before_step(hidden, initial, offsets, t, size);
        REAL z = gates[all + place], n = gates[2 * all + place], h = before ? before[state] : (REAL)0;
        if (d_hidden) d += d_hidden[place];
        if (kept) kept[place] = d;
        delta[line * 3 * size + size + unit] = d * (h - n) * z * (1 - z);          // undoes (4)
        delta[line * 3 * size + 2 * size + unit] = d * (1 - z) * (1 - n * n);
        d *= z;
      }
      d_states[state] = d;
    }
}

// Undoes (3) and (2) of step t.
extern "C" __global__ void undo_reset(
    const REAL* gates, const REAL* reset, const REAL* w_hh, REAL* d_states, REAL* delta,
    const int* offsets, const int* sizes, int size, int t) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE, here = sizes[t];
  if (row >= here) return;
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  Strided a = {delta + offsets[t] * 3LL * size + 2 * size, 3 * size, 1};
  Strided b = {w_hh + 2LL * size * size, size, 1};
  add_tile(a, b, row, column, here, size, 0, size, left, right, sums, lines);  // undoes (3)
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int b = row + threadIdx.y + SIDE * i, unit = column + threadIdx.x + SIDE * j;
      if (b >= here || unit >= size) continue;
      long long line = offsets[t] + b, place = line * size + unit;
      REAL r = gates[place];
      delta[line * 3 * size + unit] = sums[i][j] * reset[place] * (1 - r);  // undoes (2)
      d_states[(long long)b * size + unit] += sums[i][j] * r;
    }
}
