// The product of two matrices, C = A B, in any layout. For steps captured as a CUDA graph, where
// CuPy does not let cuBLAS take part.
//
//     partial[p, m, n] = sum of A[m, k] B[k, n] over p part <= k < (p + 1) part, k rising     (1)
//     C[m, n] = partial[0, m, n] + partial[1, m, n] + ...                                      (2)
//
// A block has a tile of C and a part of k. A tall product (a weight's gradient is a sum over all
// rows of a batch) has few tiles, so it is cut into parts along k. No number is added to
// atomically, and how it is cut depends on the shapes alone: the same call gives the same bits.

#include "product.cuh"

// Strides count elements. blockDim is (SIDE, SIDE); gridDim.x counts the tiles along the columns,
// gridDim.y those along the rows, gridDim.z is batches * parts, the parts of a batch apart.
extern "C" __global__ void product(
    const REAL* a, long long a_batch, long long a_row, long long a_column,
    const REAL* b, long long b_batch, long long b_row, long long b_column,
    REAL* out, long long out_part, long long out_batch, long long out_row,
    int rows, int columns, int depth, int part, int batches) {
  __shared__ Tile left[DEPTH], right[DEPTH];
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
  int batch = blockIdx.z % batches, piece = blockIdx.z / batches;
  int from = piece * part, to = depth - from < part ? depth : from + part;
  Strided of_a = {a + batch * a_batch, a_row, a_column};
  Strided of_b = {b + batch * b_batch, b_row, b_column};
  REAL sums[OWN][OWN] = {}, lines[OWN] = {};
  add_tile(of_a, of_b, row, column, rows, columns, from, to, left, right, sums, lines);  // (1)
  out += piece * out_part + batch * out_batch;
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int m = row + threadIdx.y + SIDE * i, n = column + threadIdx.x + SIDE * j;
      if (m < rows && n < columns) out[m * out_row + n] = sums[i][j];
    }
}

// A thread an element of C; `count` is the number of elements of one part.
extern "C" __global__ void sum_of_parts(
    const REAL* partial, long long count, int parts, int rows, int columns,
    REAL* out, long long out_batch, long long out_row) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  REAL sum = 0;
  for (int p = 0; p < parts; ++p) sum += partial[p * count + i];  // (2)
  long long line = i / columns;
  out[line / rows * out_batch + line % rows * out_row + i % columns] = sum;
}
