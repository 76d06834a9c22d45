// The next batch of a split that lies on the device, packed there: what npnlp/classifier/batches.py
// and npnlp/layers/packing.py do on the host.
//
// `order` holds the rows of the split, batch after batch, the longest first within each; the number
// of the batch is counters[0]. With L_b the length of sequence b:
//
//     (1)  sizes[t]   = number of b with L_b > t
//     (2)  offsets[t] = sum_b min(L_b, t)              the rows of all steps before t
//     (3)  last_rows[b] = offsets[L_b - 1] + b        and rows_of[b], the row of the split
//     (4)  row offsets[t] + b holds step t of sequence b:  its token, the row of the step before,
//          and the row of the same sequence as far from its other end
//
// The buffers are for `capacity` rows and `steps` steps, at least as many as the batch has. Steps
// beyond have no rows; rows beyond hold token 0, and point to row 0 (reversed: to themselves).

#define THREADS 256
typedef unsigned long long u64;

// (1) to (3): a thread for each step, and then one for each sequence. blockDim.x is THREADS.
extern "C" __global__ void batch_steps(
    const u64* counters, const long long* order, const long long* split_lengths,
    const long long* split_targets, int batch_size, int batch, int steps,
    long long* rows_of, long long* lengths, long long* targets, int* offsets, int* sizes,
    long long* last_rows) {
  __shared__ int shared[THREADS];
  const long long* rows = order + counters[0] * batch_size;
  int item = blockIdx.x * THREADS + threadIdx.x, sequence = item - steps;
  bool of_sequence = sequence >= 0 && sequence < batch;
  int t = of_sequence ? (int)split_lengths[rows[sequence]] - 1 : item;
  int before = 0, running = 0;
  for (int first = 0; first < batch; first += THREADS) {
    int mine = first + threadIdx.x;
    if (mine < batch) shared[threadIdx.x] = (int)split_lengths[rows[mine]];
    __syncthreads();
    for (int b = 0; b < THREADS && first + b < batch; ++b) {
      int length = shared[b];
      running += length > t;               // (1)
      before += length < t ? length : t;  // (2)
    }
    __syncthreads();
  }
  if (item < steps) {
    sizes[item] = running;
    offsets[item] = before;
  } else if (of_sequence) {
    rows_of[sequence] = rows[sequence];
    lengths[sequence] = t + 1;
    targets[sequence] = split_targets[rows[sequence]];
    last_rows[sequence] = before + sequence;  // (3)
  }
}

// (4): a thread for each step of each place, or for each row if those are more.
extern "C" __global__ void batch_rows(
    const u64* counters, const long long* order, const long long* split_tokens,
    const long long* split_starts, const long long* lengths, const int* offsets, const int* sizes,
    int batch_size, int batch, int steps, int capacity,
    long long* tokens, long long* steps_of, long long* places, long long* previous,
    long long* reversed) {
  int item = blockIdx.x * blockDim.x + threadIdx.x, t = item / batch, place = item % batch;
  int rows = offsets[steps - 1] + sizes[steps - 1];
  if (t < steps && place < sizes[t] && offsets[t] + place < capacity) {
    int row = offsets[t] + place;
    long long start = split_starts[order[counters[0] * batch_size + place]];
    tokens[row] = split_tokens[start + t];  // (4)
    steps_of[row] = t;
    places[row] = place;
    reversed[row] = offsets[lengths[place] - 1 - t] + place;
    if (t > 0) previous[row - batch] = offsets[t - 1] + place;
  }
  if (item >= rows && item < capacity) {
    tokens[item] = steps_of[item] = places[item] = previous[item - batch] = 0;
    reversed[item] = item;
  }
}
