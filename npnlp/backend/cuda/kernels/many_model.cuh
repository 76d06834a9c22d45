// One model in one block: its batch, forward and backward. See many.cu.
//
// Sizes are V tokens, D features of each, H units, G gates, C classes, B sequences of a batch; a batch
// has N packed rows (npnlp/layers/packing.py). `parts` says where each parameter begins in the flat
// buffer, `places` and `whole_places` where each array below begins in the block's own memory.
#include "many_block.cuh"
#include "many_cells.cuh"
#include "philox.cuh"

enum Sizes { VOCABULARY, FEATURES, UNITS, CLASSES, BATCH, PADDING };
enum Parts { EMB, W_IH, W_HH, B_IH, B_HH, W1, B1, W2, B2, PARTS };
// Numbers, with their shapes; the delta of products is the GRU's own, else that of tokens.
enum Places {
  BIAS,         // (G H)      of (2)
  PROJECTED,    // (V, G H)   W_ih e + b of each token
  D_PROJECTED,  // (V, G H)
  HIDDEN,       // (N, H)
  MEMORY,       // (N, SLOTS H)
  DELTA,        // (N, G H)   dL/dp
  DELTA_S,      // (N, G H)   dL/ds
  SUMS,         // (B, G H)   s of a step
  D_HIDDEN,     // (B, H)
  D_CELL,       // (B, H)
  SCALE1,       // (B, H)     of dropout, with its 1 / (1 - p)
  SCALE2,       // (B, H)     and of ReLU
  IN1,          // (B, H)
  IN2,          // (B, H)
  D_IN2,        // (B, H)
  LOGITS,       // (B, C)     then their gradient
  LOSSES,       // (B)
  ROW_WEIGHTS,  // (B)
  PLACES
};
// Whole numbers. Of a row: its token, and the row of the step before, or -1. `listed` are the rows of
// token 0, then those of token 1, and so on; those of v begin at starts[v].
enum WholePlaces { LENGTHS, TARGETS, LAST, FIRST_ROWS, RUNNING, TOKENS, PREVIOUS, STARTS, LISTED, WHOLE };

struct Split {
  const int *tokens, *starts, *lengths, *targets;
};

struct Dropout {
  u64 seed, stream1, stream2, step;
  unsigned int threshold;  // 0: nothing is dropped
  REAL scale;
};

struct Model {
  const int* sizes;
  const long long* parts;
  const REAL* values;
  REAL* grads;
  REAL* numbers;
  const long long* places;
  int* whole;
  const long long* whole_places;
  int batch, rows, steps;  // of the batch at hand

  __device__ const REAL* value(int part) const { return values + parts[part]; }
  __device__ REAL* grad(int part) const { return grads + parts[part]; }
  __device__ REAL* at(int place) const { return numbers + places[place]; }
  __device__ int* whole_at(int place) const { return whole + whole_places[place]; }
  // A unit of row `here`, with the row of the step before, or -1.
  __device__ Unit unit_of(int here, int there, int unit) const {
    const int units = sizes[UNITS];
    REAL* memory = at(MEMORY) + unit;
    return {memory + here * SLOTS * units, there < 0 ? nullptr : memory + there * SLOTS * units,
            units, there < 0 ? (REAL)0 : at(HIDDEN)[there * units + unit],
            CELL == GRU ? value(B_HH)[2 * units + unit] : (REAL)0};
  }
};

// (1) Packs the sequences that `order` names, the longest first.
__device__ void pack(Model& model, const Split& split, const int* order, int batch) {
  int* lengths = model.whole_at(LENGTHS);
  int* first_rows = model.whole_at(FIRST_ROWS);
  int* running = model.whole_at(RUNNING);
  for (int b = threadIdx.x; b < batch; b += THREADS) {
    lengths[b] = split.lengths[order[b]];
    model.whole_at(TARGETS)[b] = split.targets[order[b]];
  }
  __syncthreads();
  int steps = lengths[0];
  for (int t = threadIdx.x; t < steps; t += THREADS) {
    int before = 0, now = 0;
    for (int b = 0; b < batch; ++b) {
      before += lengths[b] < t ? lengths[b] : t;
      now += lengths[b] > t;
    }
    first_rows[t] = before;
    running[t] = now;
  }
  __syncthreads();
  for (int b = threadIdx.x; b < batch; b += THREADS)
    model.whole_at(LAST)[b] = first_rows[lengths[b] - 1] + b;
  for (int item = threadIdx.x; item < steps * batch; item += THREADS) {
    int t = item / batch, b = item % batch;
    if (b >= running[t]) continue;
    int row = first_rows[t] + b;
    model.whole_at(TOKENS)[row] = split.tokens[split.starts[order[b]] + t];
    model.whole_at(PREVIOUS)[row] = t > 0 ? first_rows[t - 1] + b : -1;
  }
  model.batch = batch;
  model.steps = steps;
  model.rows = first_rows[steps - 1] + running[steps - 1];
  __syncthreads();
}

// (2) The projection of all tokens: what a row reads of the table is the same for all rows.
__device__ void project(Model& model, Shared& shared) {
  const int units = model.sizes[UNITS], wide = GATES * units, features = model.sizes[FEATURES];
  const REAL *b_ih = model.value(B_IH), *b_hh = model.value(B_HH);
  REAL* bias = model.at(BIAS);
  for (int n = threadIdx.x; n < wide; n += THREADS)  // b_hn is inside of the product with r
    bias[n] = b_ih[n] + (CELL == GRU && n >= 2 * units ? (REAL)0 : b_hh[n]);
  __syncthreads();
  product(shared, model.sizes[VOCABULARY], wide, features, as_is(model.value(EMB), features),
          transposed(model.value(W_IH), features), {model.at(PROJECTED), bias, nullptr, false});
}

// (3) All states, step after step.
__device__ void run_forward(Model& model, Shared& shared) {
  const int units = model.sizes[UNITS], wide = GATES * units;
  const REAL *w = model.value(W_HH), *projected = model.at(PROJECTED);
  const int *tokens = model.whole_at(TOKENS), *first_rows = model.whole_at(FIRST_ROWS);
  REAL *hidden = model.at(HIDDEN), *sums = model.at(SUMS);
  for (int t = 0; t < model.steps; ++t) {
    int running = model.whole_at(RUNNING)[t], row = first_rows[t];
    const int row_before = t > 0 ? first_rows[t - 1] : 0;
    if (t > 0)
      product(shared, running, wide, units, as_is(hidden + row_before * units, units),
              transposed(w, units), {sums, nullptr, nullptr, false});
    for (int item = threadIdx.x; item < running * units; item += THREADS) {
      int b = item / units, unit = item % units, here = row + b, there = row_before + b;
      const REAL* of_token = projected + tokens[here] * wide + unit;
      REAL p[GATES], s[GATES];
      for (int gate = 0; gate < GATES; ++gate) {
        p[gate] = of_token[gate * units];
        s[gate] = t > 0 ? sums[b * wide + gate * units + unit] : (REAL)0;
      }
      const Unit found = model.unit_of(here, t > 0 ? there : -1, unit);
      hidden[here * units + unit] = cell_forward(found, p, s);
    }
    __syncthreads();
  }
}

// Scales of a mask (B, H): the bits of npnlp/backend/random.py.
__device__ void draw(const Dropout& dropout, u64 stream, int count, REAL* scales) {
  for (int block = threadIdx.x; 16 * block < count; block += THREADS) {
    Words of = {};
    if (dropout.threshold) of = drawn(block, dropout.seed, stream, dropout.step, nullptr);
    for (int place = 0; place < 16 && 16 * block + place < count; ++place) {
      bool keep = of.kept(place, dropout.threshold);
      scales[16 * block + place] = keep ? dropout.scale : (REAL)0;
    }
  }
  __syncthreads();
}

// (4) to (6): the head, from the last states to the logits.
__device__ void head_forward(Model& model, Shared& shared, const Dropout& dropout) {
  const int units = model.sizes[UNITS], classes = model.sizes[CLASSES], batch = model.batch;
  const REAL* hidden = model.at(HIDDEN);
  const int* last = model.whole_at(LAST);
  REAL *scale1 = model.at(SCALE1), *scale2 = model.at(SCALE2);
  REAL *in1 = model.at(IN1), *in2 = model.at(IN2);
  draw(dropout, dropout.stream1, batch * units, scale1);
  draw(dropout, dropout.stream2, batch * units, scale2);
  for (int item = threadIdx.x; item < batch * units; item += THREADS)
    in1[item] = hidden[last[item / units] * units + item % units] * scale1[item];  // (4)
  __syncthreads();
  product(shared, batch, units, units, as_is(in1, units), transposed(model.value(W1), units),
          {in2, model.value(B1), nullptr, false});  // (5)
  for (int item = threadIdx.x; item < batch * units; item += THREADS) {
    REAL a = in2[item], scale = scale2[item];
    in2[item] = (a < 0 ? (REAL)0 : a) * scale;  // NaN stays NaN
    scale2[item] = a > 0 ? scale : (REAL)0;
  }
  __syncthreads();
  product(shared, batch, classes, units, as_is(in2, units), transposed(model.value(W2), units),
          {model.at(LOGITS), model.value(B2), nullptr, false});  // (6)
}

// (7): a warp a row. Losses and weights of the rows; `predicted` gets the first largest class.
__device__ void losses_forward(Model& model, const REAL* class_weights, int* predicted) {
  const int classes = model.sizes[CLASSES], lane = threadIdx.x % 32;
  for (int b = threadIdx.x / 32; b < model.batch; b += THREADS / 32) {
    const REAL* z = model.at(LOGITS) + b * classes;
    const int target = model.whole_at(TARGETS)[b];
    REAL top = z[lane < classes ? lane : 0], sum = 0;
    int best = lane < classes ? lane : 0;
    for (int c = lane + 32; c < classes; c += 32)
      if (z[c] > top || z[c] != z[c]) top = z[c], best = c;
    for (int mask = 16; mask > 0; mask /= 2) {
      REAL other = __shfl_xor_sync(0xffffffffu, top, mask);
      int theirs = __shfl_xor_sync(0xffffffffu, best, mask);
      if (other > top || other != other || (other == top && theirs < best))
        top = other, best = theirs;
    }
    for (int c = lane; c < classes; c += 32) sum += exp(z[c] - top);
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (lane == 0) {
      REAL weight = class_weights ? class_weights[target] : (REAL)1;
      model.at(LOSSES)[b] = weight * (log(sum) - (z[target] - top));
      model.at(ROW_WEIGHTS)[b] = weight;
      predicted[b] = best;
    }
  }
  __syncthreads();
}
