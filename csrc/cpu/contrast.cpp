// An image drawn from a tissue map: mean and normal spread of every voxel's class, or of those that share it.
#include <algorithm>

#include "kernels.h"
#include "philox.h"

namespace ANATOMAD_LEVEL {
namespace {

// Noise is numbered over the whole tensor, four voxels to a counter.
constexpr int kVoxels = 4 * kLanes;

// Noise of the voxels from `first` on, a multiple of kVoxels.
inline void noise_of(uint64_t seed, int64_t first, float (&noise)[kVoxels]) {
  uint32_t word[4][kLanes];
  philox(seed, static_cast<uint64_t>(first) / 4, 0, kNormalStream, word);
  float drawn[4][kLanes];
  for (int j = 0; j < 4; ++j)
#pragma omp simd
    for (int i = 0; i < kLanes; ++i) drawn[j][i] = normal(word[j][i]);
  for (int i = 0; i < kVoxels; ++i) noise[i] = drawn[i & 3][i >> 2];
}

}  // namespace

bool contrast(Shape s, const uint8_t* labels, const float* means, const float* spreads, int classes, uint64_t seed,
              float* image) {
  const int64_t voxels = s.voxels(), count = s.batch * voxels;
  bool valid = true;
#pragma omp parallel for num_threads(s.threads) reduction(&& : valid)
  for (int64_t first = 0; first < count; first += kVoxels) {
    float noise[kVoxels];
    noise_of(seed, first, noise);
    const int n = static_cast<int>(std::min<int64_t>(kVoxels, count - first));
    for (int i = 0; i < n; ++i) {
      const int64_t at = first + i;
      const bool known = labels[at] < classes;
      const int64_t entry = at / voxels * classes + (known ? labels[at] : 0);
      valid = valid && known;
      image[at] = means[entry] + spreads[entry] * noise[i];
    }
  }
  return valid;
}

void soft_contrast(Shape s, const float* shares, const float* means, const float* spreads, uint64_t seed,
                   float* image) {
  const int64_t voxels = s.voxels(), count = s.batch * voxels, classes = s.channels;
  const bool noisy = std::any_of(spreads, spreads + s.batch * classes, [](float w) { return w != 0; });
#pragma omp parallel for num_threads(s.threads)
  for (int64_t first = 0; first < count; first += kVoxels) {
    float noise[kVoxels] = {};
    if (noisy) noise_of(seed, first, noise);  // most of the work
    const int64_t end = std::min<int64_t>(first + kVoxels, count);
    for (int64_t start = first; start < end;) {  // neighbours may belong to several batch entries
      const int64_t b = start / voxels;
      const int n = static_cast<int>(std::min((b + 1) * voxels, end) - start);
      float mean[kVoxels] = {}, spread[kVoxels] = {};
      for (int64_t k = 0; k < classes; ++k) {
        const float* share = shares + (b * classes + k) * voxels + start - b * voxels;
        const float m = means[b * classes + k], w = spreads[b * classes + k];
#pragma omp simd
        for (int i = 0; i < n; ++i) mean[i] += share[i] * m, spread[i] += share[i] * w;
      }
      const float* own = noise + (start - first);
#pragma omp simd
      for (int i = 0; i < n; ++i) image[start + i] = mean[i] + spread[i] * own[i];
      start += n;
    }
  }
}

}  // namespace ANATOMAD_LEVEL
