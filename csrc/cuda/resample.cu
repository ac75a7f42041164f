// Linear interpolation of class scores at the places of an output grid, and the label of the largest, in one pass.
#include "device.cuh"

namespace gpu {
namespace {

template <class T, bool kFlat>
__global__ void resample_kernel(Shape s, const T* logits, Matrix matrix, Shape output, uint8_t* labels) {
  constexpr int kCorners = kFlat ? 4 : 8;
  const Place p = place_of<1>(output);
  if (!p.inside) return;
  const float z = static_cast<float>(p.voxel / (output.width * output.height));
  const float y = static_cast<float>(p.voxel / output.width % output.height);
  const float x = static_cast<float>(p.voxel % output.width);
  const int64_t size[3] = {s.depth, s.height, s.width}, stride[3] = {s.height * s.width, s.width, 1};
  float share[3][2];
  int64_t place[3][2];
#pragma unroll
  for (int d = kFlat; d < 3; ++d) {
    const float* m = matrix.value + 4 * d;
    const float inner = kFlat ? m[1] * y + m[2] * x : m[0] * z + m[1] * y + m[2] * x;
    const float top = static_cast<float>(size[d] - 1);
    float at = m[3] + inner;
    at = at < 0 ? 0 : at > top ? top : at;
    const float low = floorf(at);
    const int64_t first = static_cast<int64_t>(low);
    share[d][1] = at - low;
    share[d][0] = 1 - share[d][1];
    place[d][0] = first * stride[d];
    place[d][1] = min(first + 1, size[d] - 1) * stride[d];
  }
  float weight[kCorners];
  int64_t offset[kCorners];
#pragma unroll
  for (int c = 0; c < kCorners; ++c) {
    const int a = c >> 2, b = c >> 1 & 1, e = c & 1;
    weight[c] = kFlat ? share[1][b] * share[2][e] : share[0][a] * share[1][b] * share[2][e];
    offset[c] = (kFlat ? 0 : place[0][a]) + place[1][b] + place[2][e];
  }
  const int64_t voxels = s.voxels();
  const T* row = logits + p.batch * s.channels * voxels;
  float best = 0;
  int label = 0;
  for (int k = 0; k < static_cast<int>(s.channels); ++k, row += voxels) {
    float value = weight[0] * widen(row[offset[0]]);
#pragma unroll
    for (int c = 1; c < kCorners; ++c) value += weight[c] * widen(row[offset[c]]);
    const bool better = k == 0 || value > best;
    best = better ? value : best;
    label = better ? k : label;
  }
  labels[p.batch * output.voxels() + p.voxel] = static_cast<uint8_t>(label);
}

}  // namespace

cudaError_t resample_argmax(cudaStream_t stream, Type type, Shape s, const void* logits, Matrix matrix, Shape output,
                            uint8_t* labels) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const auto kernel = s.flat ? resample_kernel<T, true> : resample_kernel<T, false>;
    kernel<<<blocks_of(output.batch * output.voxels()), kThreads, 0, stream>>>(s, static_cast<const T*>(logits), matrix,
                                                                              output, labels);
  });
}

}  // namespace gpu
