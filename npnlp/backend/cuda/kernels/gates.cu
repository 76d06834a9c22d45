// What the loop over time of a captured step begins with: the input of every packed row, looked up,
// and the weights as the loop wants them, both with the rows of gates negated (s_g = -1), those of
// the candidate not (s_g = 1). A cell of one gate has nothing negated.
//
//     (1)  u[g, n, j] = s_g (P[token_n, g H + j] + (b_ih + b_hh)[g H + j])      P = x W_ih^T
//     (2)  W'[g H + j, i] = s_g W_hh[g H + j, i]
//
// Where the candidate's part of b_hh is added inside the loop (the GRU), (1) leaves it out.

#ifndef REAL
#define REAL float
#endif

// A thread for each element of u, and behind these, where w_out is given, of W'. `tokens` may be
// NULL: then row n of P is that of packed row n.
extern "C" __global__ void gates(
    const REAL* projected, const long long* tokens, const REAL* b_ih, const REAL* b_hh,
    const REAL* w_hh, REAL* u, REAL* w_out, long long rows, int size, int count, int candidate,
    int apart) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, all = count * rows * size;
  long long weight = i - all;
  if (weight >= 0) {
    if (!w_out || weight >= (long long)count * size * size) return;
    int g = weight / ((long long)size * size);
    w_out[weight] = g == candidate ? w_hh[weight] : -w_hh[weight];  // (2)
    return;
  }
  int g = i / (rows * size), j = i % size, k = g * size + j;
  long long n = i / size % rows, row = tokens ? tokens[n] : n;
  REAL bias = apart && g == candidate ? b_ih[k] : b_ih[k] + b_hh[k];
  REAL sum = projected[row * count * size + k] + bias;
  u[i] = g == candidate ? sum : -sum;  // (1)
}
