// A tile's labels in shared memory, four to a word, and the derivatives of a class's membership, four at a time.
#pragma once
#include "stencil.cuh"

namespace gpu {

// kHalo voxels around the tile; along the width a word, of which the stencils use at most kHalo voxels.
template <bool kFlat, int kHalo> struct Labels {
  using Of = Tile<kFlat>;
  static constexpr int kPlanes = Of::kDepth + 2 * kHalo * Of::kAcross, kLines = Of::kHeight + 2 * kHalo;
  static constexpr int kSpan = Of::kWords + 2, kAll = kPlanes * kLines * kSpan, kNone = 256;
  uint32_t word[kPlanes][kLines][kSpan];
  uint32_t present[kNone / 32];

  // All threads take part. Returns whether the tile and its halo hold several classes.
  __device__ bool load(const Shape& s, const Of& at, const uint8_t* labels, bool whole) {
    if (threadIdx.x < kNone / 32) present[threadIdx.x] = 0;
    const uint8_t* volume = labels + at.start;
    const uint32_t same = volume[(static_cast<int64_t>(at.z0) * s.height + at.y0) * s.width + at.x0] * 0x01010101u;
    uint32_t* all = &word[0][0][0];
    uint32_t differs = 0;
    for (int i = threadIdx.x; i < kAll; i += kThreads) {
      const int z = clamped(at.z0 + i / kSpan / kLines - kHalo * Of::kAcross, s.depth);
      const int y = clamped(at.y0 + i / kSpan % kLines - kHalo, s.height), x = at.x0 + (i % kSpan - 1) * kOwn;
      all[i] = read(volume + (static_cast<int64_t>(z) * s.height + y) * s.width, x, s.width, whole);
      differs |= all[i] ^ same;
    }
    if (!__syncthreads_or(differs != 0)) return false;
    for (int i = threadIdx.x; i < kAll; i += kThreads)
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        const uint32_t label = all[i] >> 8 * j & 255, bit = 1u << (label & 31);
        if (!(present[label >> 5] & bit)) atomicOr(&present[label >> 5], bit);
      }
    __syncthreads();
    return true;
  }

  // The smallest class above `last`, or kNone.
  __device__ int next(int last) const {
    for (int bank = (last + 1) >> 5; bank < kNone / 32; ++bank) {
      const uint32_t bits = bank == (last + 1) >> 5 ? present[bank] & ~0u << ((last + 1) & 31) : present[bank];
      if (bits) return 32 * bank + __ffs(bits) - 1;
    }
    return kNone;
  }
  __device__ bool holds(int k) const { return present[k >> 5] >> (k & 31) & 1; }

 private:
  __device__ static uint32_t read(const uint8_t* row, int x, int64_t width, bool whole) {
    if (whole) {
      if (x < 0) return row[0] * 0x01010101u;
      return x < width ? *reinterpret_cast<const uint32_t*>(row + x) : row[width - 1] * 0x01010101u;
    }
    uint32_t result = 0;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) result |= static_cast<uint32_t>(row[clamped(x + j, width)]) << 8 * j;
    return result;
  }
};

// Sums of memberships across a row of the stencil, of the words before, at and after a thread's; differences have 16
// added to every byte, so that none is negative.
struct Sums {
  uint32_t s[3], dy[3], dz[3];
};

// 1 in every byte that equals the pattern's.
__device__ inline uint32_t members(uint32_t word, uint32_t pattern) {
  const uint32_t x = word ^ pattern;
  return (~(((x & 0x7f7f7f7fu) + 0x7f7f7f7fu) | x) & 0x80808080u) >> 7;
}

// Around (plane, line, word) of the labels.
template <bool kFlat, int kHalo>
__device__ inline Sums sums_of(const Labels<kFlat, kHalo>& labels, int plane, int line, int word, int k) {
  const uint32_t pattern = k * 0x01010101u;
  Sums sums;
#pragma unroll
  for (int w = 0; w < 3; ++w) {
    uint32_t smooth[3], low = 0, high = 0;
#pragma unroll
    for (int d = -Tile<kFlat>::kAcross; d <= Tile<kFlat>::kAcross; ++d) {
      const uint32_t a = members(labels.word[plane + d][line - 1][word + w - 1], pattern);
      const uint32_t b = members(labels.word[plane + d][line][word + w - 1], pattern);
      const uint32_t c = members(labels.word[plane + d][line + 1][word + w - 1], pattern);
      smooth[d + 1] = a + 2 * b + c;
      const uint32_t weight = kFlat ? 1 : 2 - d * d;
      low += weight * a;
      high += weight * c;
    }
    sums.s[w] = kFlat ? smooth[1] : smooth[0] + 2 * smooth[1] + smooth[2];
    sums.dy[w] = high + 0x10101010u - low;
    sums.dz[w] = kFlat ? 0 : smooth[2] + 0x10101010u - smooth[0];
  }
  return sums;
}

// Derivatives in bytes, each with 64 added.
__device__ inline uint32_t difference(uint32_t before, uint32_t after) { return (after | 0x40404040u) - before; }
__device__ inline uint32_t smoothed(uint32_t before, uint32_t at, uint32_t after) { return before + 2 * at + after; }
__device__ inline int number(uint32_t bytes, int i) { return static_cast<int>(bytes >> 8 * i & 255) - 64; }

}  // namespace gpu
