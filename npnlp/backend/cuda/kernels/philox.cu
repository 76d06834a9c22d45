// Dropout masks; see philox.cuh.

#include "philox.cuh"

// A thread makes one block of four words and with it up to 16 elements of the mask.
extern "C" __global__ void keep_mask(
    bool* keep, long long count, u64 seed, u64 stream, u64 step, const u64* clock,
    unsigned int threshold) {
  long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x, start = 16 * block;
  if (start >= count) return;
  Words of = drawn(block, seed, stream, step, clock);
  for (int place = 0; place < 16 && start + place < count; ++place) {
    keep[start + place] = of.kept(place, threshold);
  }
}

// Dropout: scale = value keep, y = x scale; without x the scale alone.
extern "C" __global__ void dropout(
    const REAL* x, REAL* y, REAL* scale, REAL value, long long count, u64 seed, u64 stream,
    u64 step, const u64* clock, unsigned int threshold) {
  long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x, start = 16 * block;
  if (start >= count) return;
  Words of = drawn(block, seed, stream, step, clock);
  for (int place = 0; place < 16 && start + place < count; ++place) {
    REAL s = of.kept(place, threshold) ? value : (REAL)0;
    scale[start + place] = s;
    if (x) y[start + place] = x[start + place] * s;
  }
}
