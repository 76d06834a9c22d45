// A bag of n-grams (npnlp/layers/ngrams.py) for a step that the host does not watch: how many of them
// a batch has, and which sequence has which, is known on the device alone.
//
// The n-grams of a split are found once: table[j, i] is the row of the weight for the n-gram of
// n_j = orders[j] tokens that ends at token i of the split, and -1 where it has none. With N packed
// rows, of which row r holds step t of sequence b:
//
//     (1)  first_j = sum over i < j of (N - offsets[n_i - 1])
//          p = first_j + r - offsets[n_j - 1],  r >= offsets[n_j - 1]     rows that n_j tokens end at
//          rows[p], known[p] = table[j, start of b + t],   sequences[p] = b
//     (2)  y_b = s_b sum of weight[rows[p]] over the known p with sequences[p] == b
//          s_b = 1 / sqrt(max(m_b, 1)),  m_b of them
//
// Backward: undoes (2)   dweight[v] += sum of s_b dy_b over the known p with rows[p] == v,
//                        b = sequences[p]
//
// The order of p is that of the layer, so its dropout mask has the same bits. Sums are made in a
// fixed order: the same step gives the same bits.

#ifndef REAL
#define REAL float
#endif
#define THREADS 128
#define WARPS (THREADS / 32)
#define ALL 0xffffffffu
typedef unsigned long long u64;

// (1): a thread for each row of each order. Places beyond the last n-gram are not known.
extern "C" __global__ void ngram_rows(
    const u64* counters, const long long* order, const long long* split_starts, const int* table,
    const int* orders, const int* offsets, const int* sizes, const long long* steps_of,
    const long long* places, int batch_size, int steps, int capacity, int count, int tokens,
    long long* rows, bool* known, long long* sequences) {
  int item = blockIdx.x * blockDim.x + threadIdx.x, mine = item / capacity, row = item % capacity;
  if (mine >= count) return;
  int all = offsets[steps - 1] + sizes[steps - 1], first = 0, skipped = all, total = 0;
  for (int j = 0; j < count; ++j) {
    int before = orders[j] <= steps ? offsets[orders[j] - 1] : all;
    if (j == mine) {
      first = total;
      skipped = before;
    }
    total += all - before;
  }
  if (row >= skipped && row < all) {
    long long sequence = places[row], place = first + row - skipped;
    long long start = split_starts[order[counters[0] * batch_size + sequence]];
    int found = table[(long long)mine * tokens + start + steps_of[row]];
    known[place] = found >= 0;
    rows[place] = found < 0 ? 0 : found;
    sequences[place] = sequence;
  }
  if (item >= total) {
    known[item] = false;
    rows[item] = sequences[item] = 0;
  }
}

// (2): a block sums 32 columns of one sequence. blockDim.x is THREADS, gridDim.x the number of
// sequences, gridDim.y that of the tiles of columns. A warp looks at 32 places at a time.
extern "C" __global__ void bag_sums(
    const REAL* weight, const long long* rows, const bool* known, const long long* sequences,
    int count, int columns, REAL* out, REAL* scales) {
  __shared__ REAL partial[THREADS];
  __shared__ int counted[WARPS];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = blockIdx.y * 32 + lane;
  int met = 0;
  REAL sum = 0;
  for (int from = 32 * warp; from < count; from += THREADS) {
    int place = from + lane;
    bool own = place < count && known[place] && sequences[place] == blockIdx.x;
    unsigned int left = __ballot_sync(ALL, own);
    met += __popc(left);
    for (; left; left &= left - 1) {
      long long row = rows[from + __ffs(left) - 1];
      if (column < columns) sum += weight[row * columns + column];
    }
  }
  partial[threadIdx.x] = sum;
  if (lane == 0) counted[warp] = met;
  __syncthreads();
  if (warp > 0) return;
  met = 0;
  for (int other = 0; other < WARPS; ++other) met += counted[other];
  for (int other = 1; other < WARPS; ++other) sum += partial[32 * other + lane];
  REAL scale = 1 / sqrt((REAL)(met > 1 ? met : 1));
  if (column < columns) out[(long long)blockIdx.x * columns + column] = sum * scale;
  if (blockIdx.y == 0 && lane == 0) scales[blockIdx.x] = scale;
}

// Undoes (2): a block for each place, and again a tile of columns. The first known place of a row
// adds up the gradients of all of them. `d_out` has rows of `stride` numbers.
extern "C" __global__ void bag_backward(
    const REAL* d_out, long long stride, const REAL* scales, const long long* rows,
    const bool* known, const long long* sequences, int count, int columns, REAL* d_weight) {
  __shared__ REAL partial[THREADS];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = blockIdx.y * 32 + lane;
  int mine = blockIdx.x;
  if (!known[mine]) return;
  long long row = rows[mine];
  bool earlier = false;
  for (int place = threadIdx.x; place < mine; place += THREADS) {
    earlier |= known[place] && rows[place] == row;
  }
  if (__syncthreads_or(earlier)) return;
  REAL sum = 0;
  for (int from = mine + 32 * warp; from < count; from += THREADS) {
    int place = from + lane;
    bool same = place < count && known[place] && rows[place] == row;
    for (unsigned int left = __ballot_sync(ALL, same); left; left &= left - 1) {
      long long sequence = sequences[from + __ffs(left) - 1];
      if (column < columns) sum += scales[sequence] * d_out[sequence * stride + column];
    }
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || column >= columns) return;
  for (int other = 1; other < WARPS; ++other) sum += partial[32 * other + lane];
  d_weight[row * columns + column] += sum;
}
