// An image drawn from a tissue map: mean and normal spread of every voxel's class.
#include <algorithm>

#include "kernels.h"
#include "philox.h"

namespace ANATOMAD_LEVEL {

bool contrast(Shape s, const uint8_t* labels, const float* means, const float* spreads, int classes, uint64_t seed,
              float* image) {
  // Noise is numbered over the whole tensor, four voxels to a counter.
  constexpr int kVoxels = 4 * kLanes;
  const int64_t voxels = s.voxels(), count = s.batch * voxels;
  bool valid = true;
#pragma omp parallel for num_threads(s.threads) reduction(&& : valid)
  for (int64_t first = 0; first < count; first += kVoxels) {
    uint32_t word[4][kLanes];
    philox(seed, static_cast<uint64_t>(first) / 4, 0, kNormalStream, word);
    float noise[4][kLanes];
    for (int j = 0; j < 4; ++j)
#pragma omp simd
      for (int i = 0; i < kLanes; ++i) noise[j][i] = normal(word[j][i]);
    const int n = static_cast<int>(std::min<int64_t>(kVoxels, count - first));
    for (int i = 0; i < n; ++i) {
      const int64_t at = first + i;
      const bool known = labels[at] < classes;
      const int64_t entry = at / voxels * classes + (known ? labels[at] : 0);
      valid = valid && known;
      image[at] = means[entry] + spreads[entry] * noise[i & 3][i >> 2];
    }
  }
  return valid;
}

}  // namespace ANATOMAD_LEVEL
