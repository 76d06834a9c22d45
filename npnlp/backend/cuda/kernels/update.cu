// The end of a step of training that the host does not watch: is every number finite, and if so,
// clip the gradient, take a step of Adam or of gradient descent, and write the step's row of the log.
//
//     (1)  |g_p|^2 of each parameter p, |g|^2, |w|^2
//     (2)  is loss + |g| + |w|^2 finite? If not, counters[2] becomes the number of the batch, from 1
//     (3)  only while counters[2] is 0:
//          g <- g min(1, c / (|g| + 1e-6)),   w <- w (1 - eta decay) where w decays,   Adam's step
//          or, with momentum mu:   u <- mu u + g,   w <- w - eta u
//
// So the weights and moments stay those before the first step that was not finite, until the host
// looks. The parameters are cut into chunks, each a row of `chunks`: first element, end, parameter,
// 1 where it decays. Sums are made in a fixed order: the same step gives the same bits.

#ifndef REAL
#define REAL float
#endif
#define THREADS 256
#define WARPS (THREADS / 32)
typedef unsigned long long u64;

// What is decided of a step, for adam_chunks and sgd_chunks.
enum { GOOD, SCALE, RATE, EPS, DECAY, DECIDED };

// (1), of a chunk. blockDim.x is THREADS, gridDim.x the number of chunks; `partial (2, chunks)`
// gets the squares of the gradient, then those of the weights.
extern "C" __global__ void square_sums(
    const REAL* values, const REAL* grads, const long long* chunks, double* partial) {
  __shared__ double of_grads[THREADS], of_values[THREADS];
  long long end = chunks[4 * blockIdx.x + 1];
  double g2 = 0, w2 = 0;
  for (long long i = chunks[4 * blockIdx.x] + threadIdx.x; i < end; i += THREADS) {
    double g = grads[i], w = values[i];
    g2 += g * g;
    w2 += w * w;
  }
  of_grads[threadIdx.x] = g2;
  of_values[threadIdx.x] = w2;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half) {
      of_grads[threadIdx.x] += of_grads[threadIdx.x + half];
      of_values[threadIdx.x] += of_values[threadIdx.x + half];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = of_grads[0];
    partial[gridDim.x + blockIdx.x] = of_values[0];
  }
}

// The rest of (1), and (2), in one block of THREADS. Parameter p has the chunks firsts[p] to
// firsts[p + 1] - 1; `squares (parameters + 1)` is scratch. counters: batch, step, first bad batch.
// A row of `rates (., 3)` is Adam's rate and eps with the step's corrections (else eta and 0), and
// 1 - eta decay; one of `log` is loss_sum, weight_sum, correct, |g|, then the squares. `weight_sum`
// may be NULL: then it is `rows`. A `clip` that is not above 0 clips nothing.
extern "C" __global__ void judge(
    const double* partial, const int* firsts, int parameters, double* squares,
    const REAL* loss_sum, const REAL* weight_sum, double rows, const long long* correct,
    const double* rates, REAL clip, u64* counters, double* decided, double* log) {
  __shared__ bool good;
  __shared__ REAL norm;
  int lane = threadIdx.x % 32, chunks = firsts[parameters];
  u64 batch = counters[0];
  for (int p = threadIdx.x / 32; p <= parameters; p += WARPS) {  // the last: all weights
    bool of_values = p == parameters;
    int from = of_values ? chunks : firsts[p], to = of_values ? 2 * chunks : firsts[p + 1];
    double sum = 0;
    for (int c = from + lane; c < to; c += 32) sum += partial[c];
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (lane == 0) squares[p] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int p = 0; p < parameters; ++p) sum += squares[p];
    norm = sqrt((REAL)sum);
    REAL tested = *loss_sum + norm + (REAL)squares[parameters];
    if (!(tested - tested == 0) && counters[2] == 0) counters[2] = batch + 1;  // (2)
    good = counters[2] == 0;
    REAL scale = clip > 0 ? clip / (norm + (REAL)1e-6) : (REAL)1;
    decided[GOOD] = good;
    decided[SCALE] = scale < 1 ? scale : (REAL)1;
    for (int i = 0; i < DECIDED - RATE; ++i) decided[RATE + i] = rates[3 * batch + i];
    counters[0] = batch + 1;
    counters[1] += 1;
  }
  __syncthreads();
  if (!good) return;
  double* row = log + batch * (4 + parameters);
  for (int p = threadIdx.x; p < parameters; p += THREADS) row[4 + p] = squares[p];
  if (threadIdx.x == 0) {
    row[0] = *loss_sum;
    row[1] = weight_sum ? (double)*weight_sum : rows;
    row[2] = (double)*correct;
    row[3] = norm;
  }
}

// (3), with Adam as in adam.cu. blockDim.x is THREADS, gridDim.x the number of chunks.
extern "C" __global__ void adam_chunks(
    REAL* values, const REAL* grads, REAL* first, REAL* second, const long long* chunks,
    const double* decided, REAL b1, REAL b2) {
  if (decided[GOOD] == 0) return;
  REAL scale = decided[SCALE], rate = decided[RATE], eps = decided[EPS];
  REAL decay = chunks[4 * blockIdx.x + 3] ? (REAL)decided[DECAY] : (REAL)1;
  long long end = chunks[4 * blockIdx.x + 1];
  for (long long i = chunks[4 * blockIdx.x] + threadIdx.x; i < end; i += THREADS) {
    REAL g = grads[i] * scale;
    REAL m = b1 * first[i] + g;
    REAL v = b2 * second[i] + g * g;
    first[i] = m;
    second[i] = v;
    values[i] = decay * values[i] - rate * (m / (sqrt(v) + eps));
  }
}

// (3), without Adam. `velocity` is NULL where there is no momentum.
extern "C" __global__ void sgd_chunks(
    REAL* values, const REAL* grads, REAL* velocity, const long long* chunks,
    const double* decided, REAL momentum) {
  if (!decided[GOOD]) return;
  REAL scale = decided[SCALE], rate = decided[RATE];
  long long end = chunks[4 * blockIdx.x + 1];
  for (long long i = chunks[4 * blockIdx.x] + threadIdx.x; i < end; i += THREADS) {
    REAL u = grads[i] * scale;
    if (velocity) u = velocity[i] = momentum * velocity[i] + u;
    values[i] -= rate * u;
  }
}
