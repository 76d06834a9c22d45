// A tile of a matrix product, for product.cu and affine.cu: TILE x TILE elements of C = A B,
//
//     C[m, n] = sum_k A[m, k] B[k, n],  k rising
//
// by a block of SIDE x SIDE threads, which has DEPTH columns of A and rows of B in shared memory at
// a time. Thread (x, y) has the elements (y + SIDE i, x + SIDE j) of the tile.
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

typedef REAL Tile[TILE + 1];  // + 1: in different banks

// A matrix in any layout: a transposed one has its strides exchanged. Strides count elements.
struct Strided {
  const REAL* data;
  long long row, column;
  __device__ REAL at(long long i, long long j) const { return data[i * row + j * column]; }
};

// Adds this thread's part of a tile that begins at (row, column) to `sums`, and the sums of its rows
// of A to `lines`, over k from `from` to `to`.
template <class A, class B>
__device__ void add_tile(
    const A& a, const B& b, int row, int column, int rows, int columns, int from, int to,
    Tile* left, Tile* right, REAL (&sums)[OWN][OWN], REAL (&lines)[OWN]) {
  int x = threadIdx.x, y = threadIdx.y, thread = y * SIDE + x;
  for (int k = from; k < to; k += DEPTH) {
#pragma unroll
    for (int turn = 0; turn < TILE * DEPTH / THREADS; ++turn) {
      // Neighbouring threads read what lies together in memory.
      int i = thread + turn * THREADS;
      int m = a.column == 1 ? i / DEPTH : i % TILE, p = a.column == 1 ? i % DEPTH : i / TILE;
      int n = b.column == 1 ? i % TILE : i / DEPTH, q = b.column == 1 ? i / TILE : i % DEPTH;
      bool in_a = row + m < rows && k + p < to, in_b = column + n < columns && k + q < to;
      left[p][m] = in_a ? a.at(row + m, k + p) : (REAL)0;
      right[q][n] = in_b ? b.at(k + q, column + n) : (REAL)0;
    }
    __syncthreads();
#pragma unroll 8  // all of them would take the registers of a second block
    for (int p = 0; p < DEPTH; ++p) {
      REAL of_a[OWN], of_b[OWN];
#pragma unroll
      for (int i = 0; i < OWN; ++i) {
        of_a[i] = left[p][y + SIDE * i];
        of_b[i] = right[p][x + SIDE * i];
        lines[i] += of_a[i];
      }
#pragma unroll
      for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) sums[i][j] += of_a[i] * of_b[j];
    }
    __syncthreads();
  }
}
