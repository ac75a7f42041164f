// An image drawn from a tissue map: mean and normal spread of every voxel's class, or of those that share it.
#include "device.cuh"
#include "philox.cuh"

namespace gpu {
namespace {

// Noise is numbered over the whole tensor, four voxels to a counter: a thread takes the four.
__global__ void contrast_kernel(int64_t voxels, int64_t count, const uint8_t* labels, const float* means,
                                const float* spreads, int classes, uint64_t seed, float* image) {
  const int64_t counter = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, first = 4 * counter;
  if (first >= count) return;
  uint32_t word[4];
  philox(seed, counter, 0, common::kNormalStream, word);
  const bool whole = first + 4 <= count;
  Vector<uint8_t, 4> label;
  if (whole) {
    label = Vector<uint8_t, 4>::load(labels + first);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) label.at[i] = labels[first + i < count ? first + i : count - 1];
  }
  Vector<float, 4> out;
  const int64_t batch = first / voxels;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Four neighbours may belong to two batch entries, or more where these are tiny.
    const int64_t b = first + i < (batch + 1) * voxels ? batch : (first + i) / voxels;
    const int64_t entry = (whole || first + i < count ? b : batch) * classes + label.at[i];
    out.at[i] = means[entry] + spreads[entry] * common::normal(word[i]);
  }
  if (whole) {
    out.store(image + first);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (first + i < count) image[first + i] = out.at[i];
  }
}

// kWhole: the four voxels of a thread lie in one batch entry and in one vector.
template <bool kWhole>
__global__ void soft_contrast_kernel(int64_t voxels, int64_t count, int64_t classes, const float* shares,
                                     const float* means, const float* spreads, uint64_t seed, float* image) {
  const int64_t counter = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, first = 4 * counter;
  if (first >= count) return;
  int64_t entry[4], source[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t at = kWhole ? first : first + i < count ? first + i : count - 1, b = at / voxels;
    entry[i] = b * classes;
    source[i] = b * classes * voxels + (at - b * voxels);
  }
  float mean[4] = {}, spread[4] = {};
  for (int64_t k = 0; k < classes; ++k) {
    Vector<float, 4> share;
    if (kWhole) share = Vector<float, 4>::load(shares + source[0] + k * voxels);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!kWhole) share.at[i] = shares[source[i] + k * voxels];
      mean[i] += share.at[i] * means[entry[i] + k];
      spread[i] += share.at[i] * spreads[entry[i] + k];
    }
  }
  uint32_t word[4];
  philox(seed, counter, 0, common::kNormalStream, word);
  Vector<float, 4> out;
#pragma unroll
  for (int i = 0; i < 4; ++i) out.at[i] = mean[i] + spread[i] * common::normal(word[i]);
  if (kWhole) {
    out.store(image + first);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (first + i < count) image[first + i] = out.at[i];
  }
}

}  // namespace

cudaError_t contrast(cudaStream_t stream, Shape s, const uint8_t* labels, const float* means, const float* spreads,
                     int classes, uint64_t seed, float* image) {
  const int64_t count = s.batch * s.voxels();
  contrast_kernel<<<blocks_of((count + 3) / 4), kThreads, 0, stream>>>(s.voxels(), count, labels, means, spreads,
                                                                      classes, seed, image);
  return cudaGetLastError();
}

cudaError_t soft_contrast(cudaStream_t stream, Shape s, const float* shares, const float* means, const float* spreads,
                          uint64_t seed, float* image) {
  const int64_t count = s.batch * s.voxels();
  const auto kernel = vectors_fit<4>(s, shares, image) ? soft_contrast_kernel<true> : soft_contrast_kernel<false>;
  kernel<<<blocks_of((count + 3) / 4), kThreads, 0, stream>>>(s.voxels(), count, s.channels, shares, means, spreads,
                                                             seed, image);
  return cudaGetLastError();
}

}  // namespace gpu
