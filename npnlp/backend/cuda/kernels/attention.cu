// Multi-head self-attention of packed sequences, without padding; see npnlp/layers/attention. Step i of
// sequence b is row offsets[i] + b of x = [q k v] (N, 3 E), and is there for i < L_b. Of each head:
//
//     (1)  s_ij = (q_i / sqrt d) . k_j
//     (2)  A_ij = exp(s_ij - max_m s_im) / sum_m exp(s_im - max)          0 for i or j past the end
//     (3)  P_ij = A_ij f_ij                    f: dropout's scale, of one array (B, heads, T', T')
//     (4)  o_i = sum_j P_ij v_j                T' the longest sequence's steps
//
// Backward:
//
//     undoes (4)         dP_ij = do_i . v_j,  dv_j = sum_i P_ij do_i
//     undoes (3)         dA_ij = dP_ij f_ij
//     undoes (2)         ds_ij = A_ij dA_ij - A_ij sum_m A_im dA_im
//     undoes (1)         dq_i = sum_j ds_ij k_j / sqrt d,  dk_j = sum_i ds_ij q_i / sqrt d
//
// A block has a head of a sequence; a warp a row i of it at a time. Every sum runs in a fixed order.
// Rows of x behind the last step of all belong to no sequence; their o and dx are zero.

#ifndef REAL
#define REAL float
#endif
#include "philox.cuh"
#define THREADS 128
#define WARPS (THREADS / 32)
#define LOWEST ((REAL)-3e38)  // below every score

__device__ REAL over_warp(REAL mine, bool largest) {
  for (int mask = 16; mask > 0; mask /= 2) {
    REAL other = __shfl_xor_sync(0xffffffffu, mine, mask);
    mine = largest ? (mine >= other || mine != mine ? mine : other) : mine + other;
  }
  return mine;
}

// What a block knows of its sequence and head.
struct Head {
  const int *offsets, *sizes;
  int steps, heads, size, b, head, length;  // size: d
  __device__ long long row(int i) const { return offsets[i] + b; }
  // Of one of q, k, v (0 to 2), or of o (0), with E or 3 E columns.
  __device__ long long at(int i, int which, int columns) const {
    return row(i) * columns + (which * heads + head) * size;
  }
  __device__ long long weight(int i, int j) const {
    return (((long long)b * heads + head) * steps + i) * steps + j;
  }
};

__device__ Head head_of(const int* offsets, const int* sizes, int steps, int heads, int size) {
  Head of = {offsets, sizes, steps, heads, size, (int)blockIdx.x, (int)blockIdx.y, 0};
  while (of.length < steps && sizes[of.length] > of.b) ++of.length;
  return of;
}

// Dropout's scale of one weight: `value`, or 0 where it is dropped; 1 where value is 0, for none.
struct Dropped {
  REAL value;
  u64 seed, stream, step;
  const u64* clock;
  unsigned int threshold;
  __device__ REAL at(const Head& of, int longest, int i, int j) const {
    if (value == 0) return 1;
    long long place = (((long long)of.b * of.heads + of.head) * longest + i) * longest + j;
    Words words = drawn(place / 16, seed, stream, step, clock);
    return words.kept(place % 16, threshold) ? value : (REAL)0;
  }
};

__device__ int longest_of(const int* sizes, int steps) {
  int longest = 0;
  while (longest < steps && sizes[longest] > 0) ++longest;
  return longest;
}

__device__ void clear_spare(REAL* to, int columns, long long rows, const Head& of) {
  long long used = (long long)(of.offsets[of.steps - 1] + of.sizes[of.steps - 1]) * columns;
  long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
  long long all = (long long)gridDim.x * gridDim.y * THREADS;
  for (long long i = used + block * THREADS + threadIdx.x; i < rows * columns; i += all) to[i] = 0;
}

// blockDim.x is THREADS, the grid (B, heads). `weights` and `dropped (B, heads, T, T)`, A and P; they
// may be one array where nothing is dropped.
extern "C" __global__ void attend(
    const REAL* x, const int* offsets, const int* sizes, long long rows, int steps, int heads,
    int size, REAL scale, REAL value, u64 seed, u64 stream, u64 step, const u64* clock,
    unsigned int threshold, REAL* weights, REAL* dropped, REAL* out) {
  Head of = head_of(offsets, sizes, steps, heads, size);
  Dropped scale_of = {value, seed, stream, step, clock, threshold};
  int lane = threadIdx.x % 32, wide = 3 * heads * size, length = of.length;
  int longest = longest_of(sizes, steps);
  for (int i = threadIdx.x / 32; i < steps; i += WARPS) {
    REAL top = LOWEST, sum = 0;
    for (int j = lane; j < steps; j += 32) {
      REAL s = 0;
      if (i < length && j < length) {
        const REAL *q = x + of.at(i, 0, wide), *k = x + of.at(j, 1, wide);
        for (int c = 0; c < size; ++c) s += q[c] * scale * k[c];  // (1)
        top = top >= s || top != top ? top : s;
      }
      weights[of.weight(i, j)] = s;  // a thread reads only what it wrote itself
    }
    top = over_warp(top, true);
    for (int j = lane; i < length && j < length; j += 32) {
      REAL e = exp(weights[of.weight(i, j)] - top);
      weights[of.weight(i, j)] = e;
      sum += e;
    }
    sum = over_warp(sum, false);
    for (int j = lane; j < steps; j += 32) {
      bool there = i < length && j < length;
      REAL a = there ? weights[of.weight(i, j)] / sum : (REAL)0;  // (2)
      weights[of.weight(i, j)] = a;
      if (dropped != weights) {
        dropped[of.weight(i, j)] = there ? a * scale_of.at(of, longest, i, j) : (REAL)0;  // (3)
      }
    }
  }
  __syncthreads();
  for (int place = threadIdx.x; place < length * size; place += THREADS) {
    int i = place / size, c = place % size;
    REAL sum = 0;
    for (int j = 0; j < length; ++j) {
      sum += dropped[of.weight(i, j)] * x[of.at(j, 2, wide) + c];
    }
    out[of.at(i, 0, heads * size) + c] = sum;  // (4)
  }
  clear_spare(out, heads * size, rows, of);
}

// The grid is that of attend; `slopes (B, heads, T, T)` is scratch, for ds.
extern "C" __global__ void attend_backward(
    const REAL* d_out, const REAL* x, const REAL* weights, const REAL* dropped,
    const int* offsets, const int* sizes, long long rows, int steps, int heads, int size,
    REAL scale, REAL value, u64 seed, u64 stream, u64 step, const u64* clock,
    unsigned int threshold, REAL* slopes, REAL* d_x) {
  Head of = head_of(offsets, sizes, steps, heads, size);
  Dropped scale_of = {value, seed, stream, step, clock, threshold};
  int lane = threadIdx.x % 32, narrow = heads * size, wide = 3 * narrow, length = of.length;
  int longest = longest_of(sizes, steps);
  for (int i = threadIdx.x / 32; i < length; i += WARPS) {
    REAL sum = 0;
    for (int j = lane; j < length; j += 32) {
      const REAL *d = d_out + of.at(i, 0, narrow), *v = x + of.at(j, 2, wide);
      REAL of_p = 0;
      for (int c = 0; c < size; ++c) of_p += d[c] * v[c];  // undoes (4), towards P
      REAL of_a = of_p * scale_of.at(of, longest, i, j) * weights[of.weight(i, j)];  // undoes (3)
      slopes[of.weight(i, j)] = of_a;  // times A
      sum += of_a;
    }
    sum = over_warp(sum, false);
    for (int j = lane; j < length; j += 32) {
      slopes[of.weight(i, j)] -= weights[of.weight(i, j)] * sum;  // undoes (2)
    }
  }
  __syncthreads();
  for (int place = threadIdx.x; place < length * size; place += THREADS) {
    int i = place / size, c = place % size;
    REAL d_q = 0, d_k = 0, d_v = 0;
    for (int j = 0; j < length; ++j) {
      d_q += slopes[of.weight(i, j)] * x[of.at(j, 1, wide) + c];
      d_k += slopes[of.weight(j, i)] * x[of.at(j, 0, wide) + c];
      d_v += dropped[of.weight(j, i)] * d_out[of.at(j, 0, narrow) + c];
    }
    d_x[of.at(i, 0, wide) + c] = d_q * scale;  // undoes (1)
    d_x[of.at(i, 1, wide) + c] = d_k * scale;
    d_x[of.at(i, 2, wide) + c] = d_v;  // undoes (4), towards v
  }
  clear_spare(d_x, wide, rows, of);
}
