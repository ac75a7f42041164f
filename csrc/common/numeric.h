// Element types, and the few functions of numbers that the operators need: vectorisable, and rounded alike everywhere
// (compile with -ffp-contract=off).
#pragma once
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ANATOMAD_BOTH __host__ __device__
#else
#define ANATOMAD_BOTH
#endif

namespace ANATOMAD_LEVEL {

struct bf16 { uint16_t bits; };
struct fp16 { uint16_t bits; };

template <class To, class From> ANATOMAD_BOTH inline To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

inline float widen(float x) { return x; }
inline float widen(bf16 x) { return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(fp16 x) {
  // Exponent and mantissa moved into place, the exponent's bias by a product (exact, subnormals included).
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  bits |= magnitude >= (31u << 23) ? 0xffu << 23 : 0u;  // infinity and NaN
  return bit_cast<float>(bits | static_cast<uint32_t>(x.bits & 0x8000) << 16);
}

inline void narrow(float x, float& y) { y = x; }
inline void narrow(float x, bf16& y) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  y.bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}
inline void narrow(float x, fp16& y) {
  // After F. Giesen's public-domain half conversions: round to nearest even.
  uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t sign = bits & 0x80000000u;
  bits ^= sign;
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(bits) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (bits - ((127u - 15u) << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  const uint32_t special = bits > (255u << 23) ? 0x7e00u : 0x7c00u;
  const uint32_t finite = bits < (113u << 23) ? subnormal : normal;
  y.bits = static_cast<uint16_t>((bits >= ((127u + 16u) << 23) ? special : finite) | sign >> 16);
}

// a + 2 b, rounded once: 2 b is exact, so that a fused operation gives the same bits in less time.
ANATOMAD_BOTH inline float plus_twice(float a, float b) {
#if defined(__FMA__) && !defined(__CUDACC__)
  return __builtin_fmaf(2.0f, b, a);
#else
  return a + 2 * b;
#endif
}

// exp(x) for x <= 0 (NaN stays), within 2 units in the last place; Cephes' expf.
inline float exp_negative(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = x * 1.44269504f;
  const float shifted = n + 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the rounded n
  const float k = shifted - 12582912.0f;
  const float r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  return y * bit_cast<float>((bit_cast<uint32_t>(shifted) - 0x4b400000u + 127u) << 23);
}

// Natural logarithm of a positive normal number; the operations of backends/noise.py in the same order.
ANATOMAD_BOTH inline float log_positive(float x) {
  const int32_t shifted = bit_cast<int32_t>(x) - 0x3f3504f3;
  const float exponent = static_cast<float>(shifted >> 23);
  const float m = bit_cast<float>((shifted & 0x7fffff) + 0x3f3504f3) - 1.0f;
  float y = 1.1896108836e-1f;
  y = y * m + -1.8667855859e-1f;
  y = y * m + 2.0496328175e-1f;
  y = y * m + -2.4909743667e-1f;
  y = y * m + 3.3314508200e-1f;
  y = y * m + -5.0001114607e-1f;
  y = y * m + 1.0000009537f;
  return y * m + exponent * 0.693147182f;
}

}  // namespace ANATOMAD_LEVEL
