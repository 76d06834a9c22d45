// Many models of the same shape, a block each: steps of training, and evaluations.
//
// A small model's step fills one multiprocessor and no more, so that many of them take about as long as
// one. A model is the surname classifier: embedding, one recurrent layer (many_cells.cuh), its last state,
// two linear layers.
//
//     (1)  pack the batch                    (2)  P = E W_ih^T + b       the table, projected
//     (3)  h_t = cell(P[token], W_hh h_{t-1})                            for all steps t
//     (4)  z = dropout(h_last)               (5)  z = dropout(ReLU(W1 z + b1))
//     (6)  logits = W2 z + b2                (7)  L = sum_b w_b CE_b / sum_b w_b
//     (8)  is loss + |g| + |w|^2 finite? Else bad[model] becomes the number of the batch, from 1
//     (9)  g <- g min(1, c / (|g| + 1e-6)),  w <- w (1 - eta decay) where w decays,  Adam's step
//
// Models know nothing of each other, and all sums are made in a fixed order: a model's numbers have the
// same bits whatever others there are. A block does all of a step, and goes on to the next one: no step
// waits for the host. From a step that is not finite on, a model stays what it was before it.
//
// Compile-time settings: REAL, and CELL, one of those in many_cells.cuh.
#include "many_backward.cuh"

// (8), (9), and the step's row of the log: loss_sum, weight_sum, correct, |g|, then the squares. `rates`
// are Adam's rate and eps with the step's corrections, and 1 - eta decay. Whether the model goes on.
__device__ bool update(
    const Model& model, Shared& shared, REAL* values, REAL* first, REAL* second,
    const double* rates, double loss_sum, double weight_sum, double correct, REAL clip, REAL b1,
    REAL b2, double* log) {
  __shared__ double squares[PARTS + 1];
  square_sums(model, shared, squares);
  double sum = 0;
  for (int part = 0; part < PARTS; ++part) sum += squares[part];
  REAL norm = sqrt((REAL)sum), tested = (REAL)loss_sum + norm + (REAL)squares[PARTS];
  if (!(tested - tested == 0)) return false;  // (8)
  REAL scale = clip > 0 ? clip / (norm + (REAL)1e-6) : (REAL)1;
  scale = scale < 1 ? scale : (REAL)1;
  REAL rate = rates[0], eps = rates[1];
  for (int part = 0; part < PARTS; ++part) {  // (9)
    bool bias = part == B_IH || part == B_HH || part == B1 || part == B2;
    REAL decay = bias ? (REAL)1 : (REAL)rates[2];
    for (long long i = model.parts[part] + threadIdx.x; i < model.parts[part + 1]; i += THREADS) {
      REAL g = model.grads[i] * scale;
      REAL m = b1 * first[i] + g;
      REAL v = b2 * second[i] + g * g;
      first[i] = m;
      second[i] = v;
      values[i] = decay * values[i] - rate * (m / (sqrt(v) + eps));
    }
  }
  if (threadIdx.x == 0)
    log[0] = (REAL)loss_sum, log[1] = (REAL)weight_sum, log[2] = correct, log[3] = norm;
  for (int part = threadIdx.x; part < PARTS; part += THREADS) log[4 + part] = squares[part];
  __syncthreads();  // the weights are there for the next step, and squares may be written again
  return true;
}

// Batches from .. to - 1 of the models slots[blockIdx.x]; blockDim.x is THREADS. A model begins at its
// batch begin[slot], has an order of its own, and step begun[slot] + batch of its dropout. Of batch
// `probed` (or none) the weights before it are kept in `probed_values`.
extern "C" __global__ void many_train(
    const int* slots, int from, int to, int probed, int batches, int batch_size, int rows,
    const int* sizes, const long long* parts, REAL* values, REAL* grads, REAL* first,
    REAL* second, REAL* probed_values, REAL* numbers, const long long* places, int* whole,
    const long long* whole_places, const int* tokens, const int* starts, const int* lengths,
    const int* targets, const int* order, const int* begin, const u64* begun, const u64* keys,
    const REAL* class_weights, const double* rates, double* log, int* bad,
    unsigned int threshold, REAL scale, REAL clip, REAL b1, REAL b2) {
  __shared__ Shared shared;
  const int slot = slots[blockIdx.x];
  const long long count = parts[PARTS], flat = slot * count;
  values += flat, grads += flat, first += flat, second += flat, probed_values += flat;
  Model model = {sizes, parts, values, grads, numbers + slot * places[PLACES], places,
                 whole + slot * whole_places[WHOLE], whole_places, 0, 0, 0};
  const Split split = {tokens, starts, lengths, targets};
  int* predicted = model.whole_at(LISTED);  // has room for a batch, and is free until backward
  bool good = bad[slot] == 0;
  __syncthreads();  // all have read it
  for (int batch = from > begin[slot] ? from : begin[slot]; good && batch < to; ++batch) {
    if (batch == probed)
      for (long long i = threadIdx.x; i < count; i += THREADS) probed_values[i] = values[i];
    const int size = rows - batch * batch_size < batch_size ? rows - batch * batch_size : batch_size;
    pack(model, split, order + (long long)slot * rows + batch * batch_size, size);
    project(model, shared);
    run_forward(model, shared);
    const Dropout dropout = {keys[3 * slot], keys[3 * slot + 1], keys[3 * slot + 2],
                             begun[slot] + batch, threshold, scale};
    head_forward(model, shared, dropout);
    losses_forward(model, class_weights, predicted);
    double loss = 0, weight = 0, hits = 0;
    for (int b = threadIdx.x; b < size; b += THREADS) {
      loss += model.at(LOSSES)[b];
      weight += model.at(ROW_WEIGHTS)[b];
      hits += predicted[b] == model.whole_at(TARGETS)[b];
    }
    loss = over_block(shared, loss);
    weight = over_block(shared, weight);
    hits = over_block(shared, hits);
    losses_backward(model, weight);
    head_backward(model, shared);
    run_backward(model, shared);
    project_backward(model, shared);
    const long long row = (long long)slot * batches + batch;
    good = update(model, shared, values, first, second, rates + 3 * row, loss, weight, hits, clip,
                  b1, b2, log + row * (4 + PARTS));
    if (!good && threadIdx.x == 0) bad[slot] = batch + 1;
  }
}

// All rows of a split, `batch_size` at a time in `order`, dropout off, by the models slots[blockIdx.x].
// The gridDim.y blocks of a model take its batches in turn. `sums (., batches, 2)` get the weighted
// losses and the weights of each batch, `predicted (., rows)` the classes, in the order of the split.
extern "C" __global__ void many_evaluate(
    const int* slots, int batches, int batch_size, int rows, const int* sizes,
    const long long* parts, REAL* values, REAL* numbers, const long long* places, int* whole,
    const long long* whole_places, const int* tokens, const int* starts, const int* lengths,
    const int* targets, const int* order, const REAL* class_weights, double* sums,
    int* predicted) {
  __shared__ Shared shared;
  const int slot = slots[blockIdx.x];
  const long long place = (long long)slot * gridDim.y + blockIdx.y;
  values += slot * parts[PARTS];
  Model model = {sizes, parts, values, nullptr, numbers + place * places[PLACES], places,
                 whole + place * whole_places[WHOLE], whole_places, 0, 0, 0};
  const Split split = {tokens, starts, lengths, targets};
  const Dropout none = {0, 0, 0, 0, 0, 1};
  int* found = model.whole_at(LISTED);
  project(model, shared);
  for (int batch = blockIdx.y; batch < batches; batch += gridDim.y) {
    const int* own = order + batch * batch_size;
    const int size = rows - batch * batch_size < batch_size ? rows - batch * batch_size : batch_size;
    pack(model, split, own, size);
    run_forward(model, shared);
    head_forward(model, shared, none);
    losses_forward(model, class_weights, found);
    double loss = 0, weight = 0;
    for (int b = threadIdx.x; b < size; b += THREADS) {
      loss += model.at(LOSSES)[b];
      weight += model.at(ROW_WEIGHTS)[b];
      predicted[(long long)slot * rows + own[b]] = found[b];
    }
    loss = over_block(shared, loss);
    weight = over_block(shared, weight);
    if (threadIdx.x == 0) {
      double* to = sums + 2 * ((long long)slot * batches + batch);
      to[0] = loss, to[1] = weight;
    }
  }
}
