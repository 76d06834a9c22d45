// Backward of one model in one block, and the update of its weights; see many_model.cuh and many.cu.
// Every gradient is set, not added to.
#include "many_model.cuh"

// undoes (7): dL/dlogits in place of the logits.
__device__ void losses_backward(Model& model, double weight_sum) {
  const int classes = model.sizes[CLASSES], lane = threadIdx.x % 32;
  for (int b = threadIdx.x / 32; b < model.batch; b += THREADS / 32) {
    REAL* z = model.at(LOGITS) + b * classes;
    const int target = model.whole_at(TARGETS)[b];
    REAL top = z[0], sum = 0;
    for (int c = 1; c < classes; ++c) top = z[c] > top ? z[c] : top;
    for (int c = lane; c < classes; c += 32) sum += exp(z[c] - top);
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    __syncwarp();  // all have read the row
    REAL scale = model.at(ROW_WEIGHTS)[b] / (REAL)weight_sum;
    for (int c = lane; c < classes; c += 32)
      z[c] = (exp(z[c] - top) / sum - (c == target ? 1 : 0)) * scale;
  }
  __syncthreads();
}

// undoes (6) to (4): the head; D_HIDDEN becomes dL/dh of the last states.
__device__ void head_backward(Model& model, Shared& shared) {
  const int units = model.sizes[UNITS], classes = model.sizes[CLASSES], batch = model.batch;
  const REAL *d_logits = model.at(LOGITS), *in1 = model.at(IN1), *in2 = model.at(IN2);
  REAL* d_in2 = model.at(D_IN2);
  product(shared, classes, units, batch, transposed(d_logits, classes), as_is(in2, units),
          {model.grad(W2), nullptr, nullptr, false});    // undoes (6): W2
  column_sums(d_logits, batch, classes, model.grad(B2));  // undoes (6): b2
  product(shared, batch, units, classes, as_is(d_logits, classes), as_is(model.value(W2), units),
          {d_in2, nullptr, model.at(SCALE2), false});  // undoes (6): its input; (5): ReLU, dropout
  product(shared, units, units, batch, transposed(d_in2, units), as_is(in1, units),
          {model.grad(W1), nullptr, nullptr, false});  // undoes (5): W1
  column_sums(d_in2, batch, units, model.grad(B1));     // undoes (5): b1
  product(shared, batch, units, units, as_is(d_in2, units), as_is(model.value(W1), units),
          {model.at(D_HIDDEN), nullptr, model.at(SCALE1), false});  // undoes (5): its input; (4)
}

// undoes (3): the deltas of all rows, from the last step down, then W_hh and b_hh.
__device__ void run_backward(Model& model, Shared& shared) {
  const int units = model.sizes[UNITS], wide = GATES * units;
  const REAL *w = model.value(W_HH), *hidden = model.at(HIDDEN);
  const int *first_rows = model.whole_at(FIRST_ROWS), *previous = model.whole_at(PREVIOUS);
  REAL *d_hidden = model.at(D_HIDDEN), *d_cell = model.at(D_CELL);
  REAL *delta = model.at(DELTA), *delta_s = model.at(CELL == GRU ? DELTA_S : DELTA);
  if (CELL == LSTM)  // a thread reads again what it wrote itself, or after a barrier
    for (int item = threadIdx.x; item < model.batch * units; item += THREADS) d_cell[item] = 0;
  __syncthreads();
  for (int t = model.steps - 1; t >= 0; --t) {
    int running = model.whole_at(RUNNING)[t];
    const int row = first_rows[t], row_before = t > 0 ? first_rows[t - 1] : 0;
    for (int item = threadIdx.x; item < running * units; item += THREADS) {
      int b = item / units, unit = item % units, here = row + b, there = row_before + b;
      REAL d = d_hidden[item], d_c = CELL == LSTM ? d_cell[item] : (REAL)0;
      REAL d_p[GATES], d_s[GATES];
      const Unit found = model.unit_of(here, t > 0 ? there : -1, unit);
      cell_backward(found, d, d_c, hidden[here * units + unit], d_p, d_s);
      d_hidden[item] = d;
      if (CELL == LSTM) d_cell[item] = d_c;
      for (int gate = 0; gate < GATES; ++gate) {
        delta[here * wide + gate * units + unit] = d_p[gate];
        if (CELL == GRU) delta_s[here * wide + gate * units + unit] = d_s[gate];
      }
    }
    __syncthreads();
    if (t > 0)
      product(shared, running, units, wide, as_is(delta_s + row * wide, wide), as_is(w, units),
              {d_hidden, nullptr, nullptr, true});  // undoes s: h_{t-1}
  }
  const int first = model.batch;  // rows from step 1 on have a step before them
  product(shared, wide, units, model.rows - first, transposed(delta_s + first * wide, wide),
          {hidden, units, 1, previous + first},
          {model.grad(W_HH), nullptr, nullptr, false});  // undoes s: W_hh
  column_sums(delta_s, model.rows, wide, model.grad(B_HH));
}

// undoes (2), (1): what each token gets from its rows, and from there the table and W_ih.
__device__ void project_backward(Model& model, Shared& shared) {
  const int wide = GATES * model.sizes[UNITS], features = model.sizes[FEATURES];
  const int tokens = model.sizes[VOCABULARY], padding = model.sizes[PADDING];
  const int* of_rows = model.whole_at(TOKENS);
  int *starts = model.whole_at(STARTS), *listed = model.whole_at(LISTED);
  for (int v = threadIdx.x; v < tokens; v += THREADS) {
    int smaller = 0, place = 0;
    for (int row = 0; row < model.rows; ++row) smaller += of_rows[row] < v;
    starts[v] = place = smaller;
    for (int row = 0; row < model.rows; ++row)
      if (of_rows[row] == v) listed[place++] = row;
    if (v + 1 == tokens) starts[tokens] = place;
  }
  __syncthreads();
  const REAL *delta = model.at(DELTA), *table = model.value(EMB), *w = model.value(W_IH);
  REAL *d_projected = model.at(D_PROJECTED), *d_table = model.grad(EMB);
  for (int item = threadIdx.x; item < tokens * wide; item += THREADS) {
    int v = item / wide, n = item % wide;
    REAL sum = 0;
    for (int k = starts[v]; k < starts[v + 1]; ++k) sum += delta[listed[k] * wide + n];
    d_projected[item] = sum;
  }
  __syncthreads();
  column_sums(d_projected, tokens, wide, model.grad(B_IH));
  product(shared, wide, features, tokens, transposed(d_projected, wide), as_is(table, features),
          {model.grad(W_IH), nullptr, nullptr, false});
  product(shared, tokens, features, wide, as_is(d_projected, wide), as_is(w, features),
          {d_table, nullptr, nullptr, false});
  for (int n = threadIdx.x; n < features; n += THREADS) d_table[padding * features + n] = 0;
  __syncthreads();
}

// The squares of each parameter's gradient, and |w|^2, in the block's `squares (PARTS + 1)`.
__device__ void square_sums(const Model& model, Shared& shared, double* squares) {
  for (int part = 0; part <= PARTS; ++part) {
    const bool of_values = part == PARTS;
    const REAL* numbers = of_values ? model.values : model.grads;
    long long end = model.parts[of_values ? PARTS : part + 1];
    double sum = 0;
    for (long long i = (of_values ? 0 : model.parts[part]) + threadIdx.x; i < end; i += THREADS)
      sum += (double)numbers[i] * numbers[i];
    sum = over_block(shared, sum);
    if (threadIdx.x == 0) squares[part] = sum;
  }
  __syncthreads();
}
