// The objective with distributions as targets (npnlp/training/objective.py), of one pass or of two:
// logits z_k (B, C), k = 1 ... K. A warp computes a row:
//
//     (1)  q_c = (1 - eps) y_c + eps / C              y: one class, or `shares`
//     (2)  logs_kc = log softmax(z_k + a)_c           a: `adjustment`
//     (3)  w = row's weight (B / W),  W = sum_b v[y_b]       v: class weights; else w alone, W = B
//          l = w / B (sum_k -sum_c v_c q_c logs_kc / K)
//     (4)  l += w / B (alpha / 2) sum_c (p_c - o_c) r_c      of two passes: p, o = softmax(z_k),
//                                                            r = log p - log o
//     (5)  loss_sum = W sum_b l_b,   correct = number of rows with argmax_c z_1c == y
//
// Backward, with dL/dl_b = 1:
//
//     undoes (3), (2)    dz_kc = w / (B K) (softmax(z_k + a)_c sum_d v_d q_d - v_c q_c)
//     undoes (4)         dz_1c += w / B (alpha / 2) (p_c (r_c - sum_d p_d r_d) + p_c - o_c)
//                        dz_2c += the same with p and o exchanged and r negated
//
// Sums are made in a fixed order: the same step gives the same bits.

#ifndef REAL
#define REAL float
#endif
#define ALL 0xffffffffu

__device__ REAL over_warp(REAL sum) {
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(ALL, sum, mask);
  return sum;
}

// Of a row of z + a: its largest number, and the logarithm of the sum of exp(z + a - top).
struct Softmax {
  const REAL *z, *add;
  REAL top, log_sum;
  __device__ REAL at(int c) const { return add ? z[c] + add[c] : z[c]; }
  __device__ REAL log_of(int c) const { return at(c) - top - log_sum; }
};

__device__ Softmax softmax_of(const REAL* z, const REAL* add, int columns) {
  int lane = threadIdx.x;
  Softmax found = {z, add, 0, 0};
  REAL top = found.at(lane < columns ? lane : 0);
  for (int c = lane + 32; c < columns; c += 32) {
    REAL other = found.at(c);
    top = top >= other || top != top ? top : other;  // NaN stays NaN
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    REAL other = __shfl_xor_sync(ALL, top, mask);
    top = top >= other || top != top ? top : other;
  }
  found.top = top;
  REAL sum = 0;
  for (int c = lane; c < columns; c += 32) sum += exp(found.at(c) - top);
  found.log_sum = log(over_warp(sum));
  return found;
}

// (1), times v_c. Shares are float, and so is what is made of them, as on a CPU.
struct Targets {
  const float* shares;
  const REAL* class_weights;
  REAL smoothing;
  long long target;
  int columns;
  __device__ REAL at(int c) const {
    REAL q = (1 - smoothing) * (c == target ? 1 : 0) + smoothing / columns;
    if (shares) q = (float)(1 - smoothing) * shares[c] + (float)(smoothing / columns);
    return class_weights ? class_weights[c] * q : q;
  }
};

// (1) to (4), and what undoes them. blockDim.x is 32, gridDim.x is B. NULL are `second` of one pass,
// and `shares`, `weights` and `class_weights` where there are none.
extern "C" __global__ void soft_rows(
    const REAL* first, const REAL* second, const long long* targets, const float* shares,
    const float* weights, const REAL* adjustment, const REAL* class_weights, REAL smoothing,
    REAL consistency, int columns, REAL* d_first, REAL* d_second, REAL* losses, bool* hits) {
  int lane = threadIdx.x, rows = gridDim.x, passes = second ? 2 : 1;
  long long row = blockIdx.x, base = row * columns;
  REAL scale = (weights ? (REAL)weights[row] : (REAL)1) / rows;
  if (class_weights) {
    REAL all = 0;
    for (int b = lane; b < rows; b += 32) all += class_weights[targets[b]];
    scale *= rows / over_warp(all);  // (3)
  }
  const REAL* logits[2] = {first + base, second ? second + base : first + base};
  REAL* d_logits[2] = {d_first + base, second ? d_second + base : d_first + base};
  Targets q = {shares ? shares + base : shares, class_weights, smoothing, targets[row], columns};
  REAL mass = 1, loss = 0;  // what v_c q_c add up to: q alone to 1, but for rounding
  if (class_weights) {
    mass = 0;
    for (int c = lane; c < columns; c += 32) mass += q.at(c);
    mass = over_warp(mass);
  }
  for (int k = 0; k < passes; ++k) {
    Softmax own = softmax_of(logits[k], adjustment, columns);  // (2)
    for (int c = lane; c < columns; c += 32) {
      REAL logs = own.log_of(c), target = q.at(c);
      loss -= target * logs / passes;                                 // (3)
      d_logits[k][c] = scale / passes * (exp(logs) * mass - target);  // undoes (3), (2)
    }
  }
  Softmax plain = softmax_of(logits[0], 0, columns);
  if (second) {
    Softmax other = softmax_of(logits[1], 0, columns);
    REAL apart = 0, of_p = 0, of_o = 0;
    for (int c = lane; c < columns; c += 32) {
      REAL log_p = plain.log_of(c), log_o = other.log_of(c);
      REAL p = exp(log_p), o = exp(log_o), r = log_p - log_o;
      apart += (p - o) * r;
      of_p += p * r;
      of_o += o * r;
    }
    loss += consistency / 2 * apart;  // (4)
    of_p = over_warp(of_p);
    of_o = over_warp(of_o);
    for (int c = lane; c < columns; c += 32) {  // undoes (4)
      REAL log_p = plain.log_of(c), log_o = other.log_of(c);
      REAL p = exp(log_p), o = exp(log_o), r = log_p - log_o;
      d_logits[0][c] += scale * (consistency / 2) * (p * (r - of_p) + p - o);
      d_logits[1][c] += scale * (consistency / 2) * (o * (of_o - r) + o - p);
    }
  }
  loss = over_warp(loss);
  int place = columns;  // the first of the largest logits
  for (int c = lane; c < columns; c += 32) {
    if (logits[0][c] == plain.top && c < place) place = c;
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    int other = __shfl_xor_sync(ALL, place, mask);
    place = other < place ? other : place;
  }
  if (lane == 0) {
    losses[row] = loss * scale;
    hits[row] = place == targets[row];
  }
}

// (5), in one warp. `sums` are loss_sum and W.
extern "C" __global__ void soft_sums(
    const REAL* losses, const bool* hits, const long long* targets, const REAL* class_weights,
    int rows, REAL* sums, long long* correct) {
  REAL loss = 0, all = 0;
  long long right = 0;
  for (int b = threadIdx.x; b < rows; b += 32) {
    loss += losses[b];
    right += hits[b];
    if (class_weights) all += class_weights[targets[b]];
  }
  loss = over_warp(loss);
  all = class_weights ? over_warp(all) : (REAL)rows;
  for (int mask = 16; mask > 0; mask /= 2) right += __shfl_xor_sync(ALL, right, mask);
  if (threadIdx.x == 0) {
    sums[0] = loss * all;
    sums[1] = all;
    *correct = right;
  }
}
