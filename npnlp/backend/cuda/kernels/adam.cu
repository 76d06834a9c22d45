// Adam (Kingma and Ba, 2015) in one pass over the flat buffer of all parameters.
//
// With the moments kept as the plain sums m / (1 - b1) and v / (1 - b2) (see Adam in
// npnlp/training/optimizers.py), and the step's two corrections inside `rate` and `eps`:
//
//     (1)  m <- b1 m + g
//     (2)  v <- b2 v + g^2
//     (3)  w <- w - rate m / (sqrt(v) + eps)
//
// Every element is its own, so there is no order to keep: a repeated step gives the same bits.

#ifndef REAL
#define REAL float
#endif

extern "C" __global__ void adam_step(
    REAL* values, const REAL* grads, REAL* first, REAL* second, long long count,
    REAL b1, REAL b2, REAL rate, REAL eps) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  REAL g = grads[i];
  REAL m = b1 * first[i] + g;       // (1)
  REAL v = b2 * second[i] + g * g;  // (2)
  first[i] = m;
  second[i] = v;
  values[i] -= rate * (m / (sqrt(v) + eps));  // (3)
}
