// Affine maps and their gradients, with what comes before and behind them in the same launch. For
// captured steps, of which every launch is a node.
//
//     (1)  s[m, n] = sum_k A[m, k] B[k, n]                A = x and B = W^T; or A = dy and B = W
//     (2)  a[m, n] = s[m, n] + b[n]
//     (3)  y = a f;   with RELU  y = max(a, 0) f,  f <- f [a > 0]           f: dropout's scale
//
// The gradients of the weights, where x_k may be a row of a larger array, or of another one:
//
//     undoes (2)    db[m] += sum_k dy[k, m]
//     undoes (1)    dW[m, n] += sum_k dy[k, m] x_k[n]
//     x_k = first[k] for k < skip (zero if there is none), else x[places[k - skip]], or x[k]
//
// As in product.cu, sums run over parts of k, and the parts are added in their order: the same call
// gives the same bits. With one part, a launch does all.

#include "product.cuh"

// (2) and (3) of one element.
__device__ void finish(
    REAL sum, long long place, int n, const REAL* bias, REAL* factor, int relu, REAL* out) {
  REAL a = bias ? sum + bias[n] : sum;  // (2)
  if (relu) {
    REAL f = factor[place];
    bool active = a > 0;
    out[place] = (active || a != a ? a : (REAL)0) * f;  // (3)
    factor[place] = active ? f : (REAL)0;
  } else {
    out[place] = factor ? a * factor[place] : a;  // (3)
  }
}

// Fills `out (rows, columns)`; where gridDim.z, the number of parts, is above 1, `out (parts, rows,
// columns)` with (1) alone. blockDim is (SIDE, SIDE); gridDim.x and .y count tiles as in product.cu.
extern "C" __global__ void affine(
    const REAL* a, long long a_row, long long a_column,
    const REAL* b, long long b_row, long long b_column,
    const REAL* bias, REAL* factor, int relu, REAL* out,
    int rows, int columns, int depth, int part) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
  int from = blockIdx.z * part, to = depth - from < part ? depth : from + part;
  Strided of_a = {a, a_row, a_column}, of_b = {b, b_row, b_column};
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  add_tile(of_a, of_b, row, column, rows, columns, from, to, left, right, sums, lines);  // (1)
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int m = row + threadIdx.y + SIDE * i, n = column + threadIdx.x + SIDE * j;
      if (m >= rows || n >= columns) continue;
      long long place = (long long)m * columns + n;
      if (gridDim.z > 1) {
        out[(long long)blockIdx.z * rows * columns + place] = sums[i][j];
      } else {
        finish(sums[i][j], place, n, bias, factor, relu, out);
      }
    }
}

// The parts of (1) added, then (2) and (3): a thread for each of `count` elements.
extern "C" __global__ void affine_of_parts(
    const REAL* partial, int parts, const REAL* bias, REAL* factor, int relu, REAL* out,
    long long count, int columns) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  REAL sum = 0;
  for (int p = 0; p < parts; ++p) sum += partial[p * count + i];
  finish(sum, i, i % columns, bias, factor, relu, out);
}

// The rows x_k of the gradient.
struct Chosen {
  const REAL *x, *first;
  const long long* places;
  long long row, column;
  int skip, columns;
  __device__ REAL at(long long k, long long n) const {
    if (k < skip) return first ? first[k * columns + n] : (REAL)0;
    return x[(places ? places[k - skip] : k) * row + n * column];
  }
};

// dW is (rows, columns), a row of it `step` elements behind the one before; `places` and `first` may
// be NULL, without `places` skip is 0. With several parts, part p writes its sums to `partial
// (parts, rows, columns + 1)`, db in the last column.
extern "C" __global__ void weight_gradient(
    const REAL* dy, long long dy_row, long long dy_column,
    const REAL* x, long long x_row, long long x_column,
    const long long* places, const REAL* first, int skip,
    REAL* d_weight, long long step, REAL* d_bias, REAL* partial,
    int rows, int columns, int depth, int part) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
  int from = blockIdx.z * part, to = depth - from < part ? depth : from + part;
  Strided of_dy = {dy, dy_column, dy_row};  // transposed
  Chosen of_x = {x, first, places, x_row, x_column, skip, columns};
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  add_tile(of_dy, of_x, row, column, rows, columns, from, to, left, right, sums, lines);
  if (gridDim.z > 1) partial += (long long)blockIdx.z * rows * (columns + 1);
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    int m = row + threadIdx.y + SIDE * i;
    if (m >= rows) continue;
    long long base = (long long)m * (columns + 1);
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int n = column + threadIdx.x + SIDE * j;
      if (n >= columns) continue;
      if (gridDim.z > 1) {
        partial[base + n] = sums[i][j];
      } else {
        d_weight[m * step + n] += sums[i][j];  // undoes (1)
      }
    }
    if (column + threadIdx.x > 0) continue;  // one thread for each line
    if (gridDim.z > 1) {
      partial[base + columns] = lines[i];
    } else {
      d_bias[m] += lines[i];  // undoes (2)
    }
  }
}

// The parts added: a thread for each of `count` elements of one part.
extern "C" __global__ void gradient_of_parts(
    const REAL* partial, int parts, REAL* d_weight, long long step, REAL* d_bias,
    long long count, int columns) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  REAL sum = 0;
  for (int p = 0; p < parts; ++p) sum += partial[p * count + i];
  long long m = i / (columns + 1), n = i % (columns + 1);
  if (n == columns) {
    d_bias[m] += sum;
  } else {
    d_weight[m * step + n] += sum;
  }
}
