// The product of two matrices, C = A B, in any layout: a transposed matrix is one with its strides
// exchanged. For steps captured as a CUDA graph, where CuPy does not let cuBLAS take part.
//
//     partial[p, m, n] = sum of A[m, k] B[k, n] over p part <= k < (p + 1) part, k rising     (1)
//     C[m, n] = partial[0, m, n] + partial[1, m, n] + ...                                      (2)
//
// A block of 16 x 16 threads has a tile of C, TILE x TILE, and runs over its part of k with DEPTH
// columns of A and rows of B in shared memory at a time. A tall product (a weight's gradient is a
// sum over all rows of a batch) has few tiles, so it is cut into parts along k. No number is added
// to atomically, and how it is cut depends on the shapes alone: the same call gives the same bits.
//
// Compile-time setting, chosen by npnlp/backend/cuda/products.py: TILE, 32 or 64.

#ifndef REAL
#define REAL float
#endif
#ifndef TILE
#define TILE 32
#endif
#define SIDE 16
#define THREADS (SIDE * SIDE)
#define DEPTH (1024 / TILE)  // so that either tile has four loads of each matrix on their way
#define OWN (TILE / SIDE)  // a thread has OWN x OWN elements of the tile

// Strides count elements. blockDim is (SIDE, SIDE); gridDim.x counts the tiles along the columns,
// gridDim.y those along the rows, gridDim.z is batches * parts, the parts of a batch apart.
extern "C" __global__ void product(
    const REAL* a, long long a_batch, long long a_row, long long a_column,
    const REAL* b, long long b_batch, long long b_row, long long b_column,
    REAL* out, long long out_part, long long out_batch, long long out_row,
    int rows, int columns, int depth, int part, int batches) {
  __shared__ REAL left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];  // + 1: in different banks
  int x = threadIdx.x, y = threadIdx.y, thread = y * SIDE + x;
  int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
  int batch = blockIdx.z % batches, piece = blockIdx.z / batches;
  int from = piece * part, to = depth - from < part ? depth : from + part;
  a += batch * a_batch;
  b += batch * b_batch;
  REAL sums[OWN][OWN] = {};
  for (int k = from; k < to; k += DEPTH) {
#pragma unroll
    for (int turn = 0; turn < TILE * DEPTH / THREADS; ++turn) {
      // Neighbouring threads read what lies together in memory.
      int i = thread + turn * THREADS;
      int m = a_column == 1 ? i / DEPTH : i % TILE, p = a_column == 1 ? i % DEPTH : i / TILE;
      int n = b_column == 1 ? i % TILE : i / DEPTH, q = b_column == 1 ? i / TILE : i % DEPTH;
      bool in_a = row + m < rows && k + p < to, in_b = column + n < columns && k + q < to;
      left[p][m] = in_a ? a[(row + m) * a_row + (k + p) * a_column] : (REAL)0;
      right[q][n] = in_b ? b[(k + q) * b_row + (column + n) * b_column] : (REAL)0;
    }
    __syncthreads();
#pragma unroll 8  // all of them would take the registers of a second block
    for (int p = 0; p < DEPTH; ++p) {
      REAL of_a[OWN], of_b[OWN];
#pragma unroll
      for (int i = 0; i < OWN; ++i) {
        of_a[i] = left[p][y + SIDE * i];
        of_b[i] = right[p][x + SIDE * i];
      }
#pragma unroll
      for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) sums[i][j] += of_a[i] * of_b[j];  // (1)
    }
    __syncthreads();
  }
  out += piece * out_part + batch * out_batch;
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      int m = row + y + SIDE * i, n = column + x + SIDE * j;
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
