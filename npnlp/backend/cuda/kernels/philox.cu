// Dropout masks: the bits of npnlp/backend/random.py.
#include "philox.cuh"

// A thread makes one block of four words and with it up to 16 elements of the mask. Where `clock` is
// given, the step stands there: a captured launch then draws anew each time.
extern "C" __global__ void keep_mask(
    bool* keep, long long count, u64 seed, u64 stream, u64 step, const u64* clock,
    unsigned int threshold) {
  if (clock) step = *clock;
  long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  long long start = 16 * block;
  if (start >= count) return;
  u64 word[4];
  philox_block(word, (u64)block + 1, seed, stream, step);
  for (int place = 0; place < 16 && start + place < count; ++place) {
    keep[start + place] = bits_of(word, place) >= threshold;
  }
}
