// Counter-based noise, equal bit for bit to anatomad/kernels/backends/noise.py.
#pragma once
#include <cmath>
#include <cstdint>

#include "numeric.h"

namespace ANATOMAD_LEVEL {

constexpr uint32_t kGumbelStream = 0, kNormalStream = 1;

// In (0, 1), neither end reached: the upper 23 bits as a number from 1 on, less one, and half a step more.
ANATOMAD_BOTH inline float uniform(uint32_t word) { return bit_cast<float>(word >> 9 | 0x3f800000u) - 0x1.fffffep-1f; }

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
