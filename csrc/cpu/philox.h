// Philox 4x32-10 (Salmon et al., SC 2011), a vector of counters at a time. A word stands in the lower half of a 64-bit
// lane, where the processor multiplies two of them at full width; upper halves hold what is left over and do not count.
#pragma once
#include "../common/noise.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ANATOMAD_LEVEL {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
using Wide __attribute__((vector_size(4 * kLanes))) = uint64_t;

inline Wide product(Wide a, uint32_t factor) {
  const Wide b = Wide{} + factor;
#if defined(__AVX512F__)
  return reinterpret_cast<Wide>(_mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Wide>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<Wide>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  return (a & 0xffffffffu) * b;
#endif
}

// The counters (first + lane, block, stream): four words for each lane.
inline void philox(uint64_t seed, uint64_t first, uint32_t block, uint32_t stream, uint32_t (&word)[4][kLanes]) {
  Wide c[2][4];  // even lanes, odd lanes
  for (int odd = 0; odd < 2; ++odd) {
    Wide counter;
    for (int i = 0; i < kLanes / 2; ++i) counter[i] = first + 2 * i + odd;
    c[odd][0] = counter, c[odd][1] = counter >> 32, c[odd][2] = Wide{} + block, c[odd][3] = Wide{} + stream;
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (auto& w : c) {
      const Wide p0 = product(w[0], 0xD2511F53u), p1 = product(w[2], 0xCD9E8D57u);
      w[0] = (p1 >> 32) ^ w[1] ^ k0, w[1] = p1, w[2] = (p0 >> 32) ^ w[3] ^ k1, w[3] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int j = 0; j < 4; ++j) {
    const Wide both = (c[0][j] & 0xffffffffu) | c[1][j] << 32;  // lanes in their order: the lower half comes first
    std::memcpy(word[j], &both, sizeof both);
  }
}

}  // namespace ANATOMAD_LEVEL
