// The mathematics of a cell, for one unit of one packed row; see npnlp/layers/recurrent/.
//
// p are the gates of the projected token, with all biases but the GRU's b_hn; s = W_hh h_{t-1}.
//
//     Elman   h = phi(p + s)                                          phi tanh, or ReLU
//     GRU     r, z = sigma(p + s)   q = s_n + b_hn   n = tanh(p_n + r q)   h = n + z (h_{t-1} - n)
//     LSTM    i, f, o = sigma(p + s)   g = tanh(p_g + s_g)   c = f c_{t-1} + i g   h = o tanh(c)
//
// `memory` holds, for each packed row, SLOTS blocks of H numbers that backward needs beside h.
// Backward gets d = dL/dh (LSTM: also dL/dc) and gives dL/dp, dL/ds, and what of d passes by s.

#define ELMAN_TANH 0
#define ELMAN_RELU 1
#define GRU 2
#define LSTM 3
#ifndef CELL
#define CELL ELMAN_TANH
#endif

#if CELL == GRU
#define GATES 3
#define SLOTS 4  // r, z, n, q
#elif CELL == LSTM
#define GATES 4
#define SLOTS 6  // i, f, g, o, c, tanh c
#else
#define GATES 1
#define SLOTS 0
#endif

__device__ REAL sigma(REAL a) { return 1 / (1 + exp(-a)); }

// A unit of a row: its memory, and that of the step before (NULL before step 0), in which slots are
// `units` apart; h_{t-1}; and b_hn.
struct Unit {
  REAL* m;
  const REAL* before;
  int units;
  REAL h_before, own_bias;

  __device__ REAL& slot(int number) const { return m[number * units]; }
  __device__ REAL c_before() const { return before ? before[4 * units] : (REAL)0; }
};

// h of a unit.
__device__ REAL cell_forward(
    const Unit& unit, const REAL (&p)[GATES], const REAL (&s)[GATES]) {
#if CELL == GRU
  REAL r = sigma(p[0] + s[0]), z = sigma(p[1] + s[1]), q = s[2] + unit.own_bias;
  REAL n = tanh(p[2] + r * q);
  unit.slot(0) = r, unit.slot(1) = z, unit.slot(2) = n, unit.slot(3) = q;
  return n + z * (unit.h_before - n);
#elif CELL == LSTM
  REAL i = sigma(p[0] + s[0]), f = sigma(p[1] + s[1]), g = tanh(p[2] + s[2]);
  REAL o = sigma(p[3] + s[3]), c = f * unit.c_before() + i * g;
  REAL tanh_c = tanh(c);
  unit.slot(0) = i, unit.slot(1) = f, unit.slot(2) = g, unit.slot(3) = o;
  unit.slot(4) = c, unit.slot(5) = tanh_c;
  return o * tanh_c;
#else
  (void)unit;
  REAL a = p[0] + s[0];
  return CELL == ELMAN_TANH ? tanh(a) : a < 0 ? (REAL)0 : a;  // NaN stays NaN
#endif
}

// d_p and d_s from d; d and d_c become what does not go through the product.
__device__ void cell_backward(
    const Unit& unit, REAL& d, REAL& d_c, REAL h, REAL (&d_p)[GATES], REAL (&d_s)[GATES]) {
  (void)unit, (void)d_c, (void)h;
#if CELL == GRU
  REAL r = unit.slot(0), z = unit.slot(1), n = unit.slot(2), q = unit.slot(3);
  d_p[2] = (1 - z) * (1 - n * n) * d;             // undoes h: n, and its tanh
  d_p[0] = d_p[2] * q * r * (1 - r);              // undoes n: r
  d_p[1] = (unit.h_before - n) * z * (1 - z) * d;      // undoes h: z
  d_s[0] = d_p[0], d_s[1] = d_p[1], d_s[2] = d_p[2] * r;  // undoes n: q
  d *= z;                                         // undoes h: h_{t-1}
#elif CELL == LSTM
  REAL i = unit.slot(0), f = unit.slot(1), g = unit.slot(2), o = unit.slot(3);
  REAL tanh_c = unit.slot(5);
  REAL of_c = d_c + o * (1 - tanh_c * tanh_c) * d;  // undoes h: c
  d_p[0] = of_c * g * i * (1 - i);                  // undoes c: i
  d_p[1] = of_c * unit.c_before() * f * (1 - f);        // undoes c: f
  d_p[2] = of_c * i * (1 - g * g);                  // undoes c: g
  d_p[3] = d * tanh_c * o * (1 - o);                // undoes h: o
  for (int gate = 0; gate < GATES; ++gate) d_s[gate] = d_p[gate];
  d_c = of_c * f;                                   // undoes c: c_{t-1}
  d = 0;
#else
  d_p[0] = d_s[0] = CELL == ELMAN_TANH ? (1 - h * h) * d : h > 0 ? d : (REAL)0;  // undoes h
  d = 0;
#endif
}
