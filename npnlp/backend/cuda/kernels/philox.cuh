// Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the numbers of
// npnlp/backend/random.py, bit for bit.
//
// Block i = 1, 2, ... has the counter (i, 0, step, 0) and the key (seed, hash of the stream's
// name). Its four words of 64 bits are cut into 16 numbers of 16 bits, lowest bits first:
//
//     keep[16 (i - 1) + 4 w + k] = ((word_w >> 16 k) mod 2^16) >= round(p 2^16)

typedef unsigned long long u64;

// (1) One round: c0, c2 are multiplied, and high and low halves change places under the key.
__device__ void philox_round(u64 counter[4], u64 key0, u64 key1) {
  const u64 first = 0xD2E7470EE14C6C93ULL, second = 0xCA5A826395121157ULL;
  u64 high0 = __umul64hi(first, counter[0]), low0 = first * counter[0];
  u64 high2 = __umul64hi(second, counter[2]), low2 = second * counter[2];
  counter[0] = high2 ^ counter[1] ^ key0;
  counter[1] = low2;
  counter[2] = high0 ^ counter[3] ^ key1;
  counter[3] = low0;
}

// The four words of block i.
__device__ void philox_block(u64 word[4], u64 i, u64 seed, u64 stream, u64 step) {
  word[0] = i, word[1] = 0, word[2] = step, word[3] = 0;
  for (int round = 0; round < 10; ++round) {
    philox_round(word, seed, stream);
    seed += 0x9E3779B97F4A7C15ULL;    // (2) the key of the next round: Weyl sequences of the
    stream += 0xBB67AE8584CAA73BULL;  //     golden ratio and of sqrt(3) - 1
  }
}

// Number `place`, 0 to 15, of a block's words.
__device__ unsigned int bits_of(const u64 word[4], int place) {
  return (unsigned int)(word[place / 4] >> (16 * (place % 4))) & 0xFFFFu;
}
