// Counter-based noise, equal bit for bit to anatomad/kernels/backends/noise.py.
#pragma once
#include <cmath>
#include <cstdint>

#include "numeric.h"

namespace ANATOMAD_LEVEL {

constexpr int kLanes = 16;
constexpr uint32_t kGumbelStream = 0, kNormalStream = 1;

// Philox 4x32-10 (Salmon et al., SC 2011) of the counters (first + lane, block, stream): four words for each lane.
inline void philox(uint64_t seed, uint64_t first, uint32_t block, uint32_t stream, uint32_t (&word)[4][kLanes]) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    c0[i] = static_cast<uint32_t>(first + i);
    c1[i] = static_cast<uint32_t>((first + i) >> 32);
    c2[i] = block;
    c3[i] = stream;
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t p0 = static_cast<uint64_t>(c0[i]) * 0xD2511F53u, p1 = static_cast<uint64_t>(c2[i]) * 0xCD9E8D57u;
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kLanes; ++i) {
    word[0][i] = c0[i];
    word[1][i] = c1[i];
    word[2][i] = c2[i];
    word[3][i] = c3[i];
  }
}

// In (0, 1), neither end reached.
ANATOMAD_BOTH inline float uniform(uint32_t word) { return (static_cast<float>(static_cast<int32_t>(word >> 9)) + 0.5f) * 0x1p-23f; }

ANATOMAD_BOTH inline float gumbel(uint32_t word) { return -log_positive(-log_positive(uniform(word))); }

// Giles, Approximating the erfinv function, 2010.
ANATOMAD_BOTH inline float normal(uint32_t word) {
  const float x = uniform(word) * 2.0f - 1.0f;
  const float w = -log_positive((1.0f - x) * (1.0f + x));
  const float c = w - 2.5f, t = std::sqrt(w) - 3.0f;
  float p = 2.81022636e-08f, q = -0.000200214257f;
  p = p * c + 3.43273939e-07f, q = q * t + 0.000100950558f;
  p = p * c + -3.5233877e-06f, q = q * t + 0.00134934322f;
  p = p * c + -4.39150654e-06f, q = q * t + -0.00367342844f;
  p = p * c + 0.00021858087f, q = q * t + 0.00573950773f;
  p = p * c + -0.00125372503f, q = q * t + -0.0076224613f;
  p = p * c + -0.00417768164f, q = q * t + 0.00943887047f;
  p = p * c + 0.246640727f, q = q * t + 1.00167406f;
  p = p * c + 1.50140941f, q = q * t + 2.83297682f;
  return (w < 5.0f ? p : q) * x * 1.41421356f;
}

}  // namespace ANATOMAD_LEVEL
