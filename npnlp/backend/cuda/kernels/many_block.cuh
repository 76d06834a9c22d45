// What a block computes alone that trains a whole model: matrix products and sums, in a fixed order.
//
// All threads of a block call these together. Each ends with a barrier, so its result can be read.

#ifndef REAL
#define REAL float
#endif
#define SIDE 16
#define THREADS (SIDE * SIDE)
#define OWN 4              // a thread has OWN x OWN elements of a tile
#define TILE (OWN * SIDE)
#define DEPTH 32

struct alignas(OWN * sizeof(REAL)) Four {
  REAL of[OWN];
};

// Shared memory of a block: parts of the two factors, and a number for each warp.
struct Shared {
  Four left[DEPTH][SIDE + 1], right[DEPTH][SIDE + 1];  // + 1: in different banks
  double warps[THREADS / 32];
};

// A matrix as it lies in memory: element (m, n) is at[m row + n column]. Where `rows` is given, it names
// the rows that are meant.
struct Matrix {
  const REAL* at;
  int row, column;
  const int* rows;

  __device__ REAL operator()(int m, int n) const { return at[(rows ? rows[m] : m) * row + n * column]; }
};
__device__ Matrix as_is(const REAL* at, int columns) { return {at, columns, 1, nullptr}; }
__device__ Matrix transposed(const REAL* at, int columns) { return {at, 1, columns, nullptr}; }

// Where a product goes: `to`, row by row; with a bias for each column, times `scales` like it, and added
// to what is there.
struct Result {
  REAL* to;
  const REAL *bias, *scales;
  bool adds;

  __device__ void put(int m, int n, int columns, REAL value) const {
    int place = m * columns + n;
    if (bias) value += bias[n];
    if (scales) value *= scales[place];
    to[place] = adds ? to[place] + value : value;
  }
};

// The sum over k of a(m, k) b(k, n), k rising, for all m < rows, n < columns. One function for all
// products of a step: it is compiled once.
__device__ __noinline__ void product(
    Shared& shared, int rows, int columns, int depth, Matrix a, Matrix b, Result result) {
  int thread = threadIdx.x, x = thread % SIDE, y = thread / SIDE;
  REAL* left = shared.left[0][0].of;
  REAL* right = shared.right[0][0].of;
  const int line = OWN * (SIDE + 1);
  for (int row = 0; row < rows; row += TILE)
    for (int column = 0; column < columns; column += TILE) {
      REAL sums[OWN][OWN] = {};
      for (int from = 0; from < depth; from += DEPTH) {
#pragma unroll
        for (int turn = 0; turn < TILE * DEPTH / THREADS; ++turn) {
          // Neighbouring threads read what lies together in memory.
          int i = thread + turn * THREADS;
          int m = a.column == 1 ? i / DEPTH : i % TILE, p = a.column == 1 ? i % DEPTH : i / TILE;
          int n = b.column == 1 ? i % TILE : i / DEPTH, q = b.column == 1 ? i / TILE : i % DEPTH;
          bool in_a = row + m < rows && from + p < depth;
          bool in_b = column + n < columns && from + q < depth;
          left[p * line + m] = in_a ? a(row + m, from + p) : (REAL)0;
          right[q * line + n] = in_b ? b(from + q, column + n) : (REAL)0;
        }
        __syncthreads();
        if (row + OWN * y < rows) {
#pragma unroll 8
          for (int p = 0; p < DEPTH; ++p) {
            const Four of_a = shared.left[p][y], of_b = shared.right[p][x];
#pragma unroll
            for (int i = 0; i < OWN; ++i)
#pragma unroll
              for (int j = 0; j < OWN; ++j) sums[i][j] += of_a.of[i] * of_b.of[j];
          }
        }
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          int m = row + OWN * y + i, n = column + OWN * x + j;
          if (m < rows && n < columns) result.put(m, n, columns, sums[i][j]);
        }
    }
  __syncthreads();
}

// The sum of one number a thread; every thread gets it.
__device__ double over_block(Shared& shared, double mine) {
  for (int mask = 16; mask > 0; mask /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, mask);
  if (threadIdx.x % 32 == 0) shared.warps[threadIdx.x / 32] = mine;
  __syncthreads();
  double sum = 0;
  for (int warp = 0; warp < THREADS / 32; ++warp) sum += shared.warps[warp];
  __syncthreads();  // so that nobody writes over it before all have read it
  return sum;
}

// out[n] = sum over m of values[m, n], m rising.
__device__ void column_sums(const REAL* values, int rows, int columns, REAL* out) {
  for (int n = threadIdx.x; n < columns; n += THREADS) {
    REAL sum = 0;
    for (int m = 0; m < rows; ++m) sum += values[(size_t)m * columns + n];
    out[n] = sum;
  }
  __syncthreads();
}
