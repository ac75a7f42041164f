// Exact median of each voxel's window: its bits are found from the highest down. A value with a bit set is kept if no
// more than half of the window lies below it.
#include "stencil.cuh"

namespace gpu {
namespace {

template <class T, int kSize, bool kFlat>
__global__ void __launch_bounds__(kThreads) median_kernel(Shape s, const T* score, T* result) {
  using Of = Tile<kFlat>;
  constexpr int kRadius = kSize / 2, kDeep = kRadius * Of::kAcross, kSpan = Of::kWidth + 2 * kRadius;
  constexpr int kPlanes = Of::kDepth + 2 * kDeep, kLines = Of::kHeight + 2 * kRadius;
  constexpr int kHalf = (kFlat ? kSize * kSize : kSize * kSize * kSize) / 2;
  __shared__ T near[kPlanes][kLines][kSpan];
  const Of at(s);
  T* all = &near[0][0][0];
  for (int i = threadIdx.x; i < kPlanes * kLines * kSpan; i += kThreads) {
    const int z = clamped(at.z0 + i / kSpan / kLines - kDeep, s.depth);
    const int y = clamped(at.y0 + i / kSpan % kLines - kRadius, s.height);
    const int x = clamped(at.x0 + i % kSpan - kRadius, s.width);
    all[i] = score[at.start + (static_cast<int64_t>(z) * s.height + y) * s.width + x];
  }
  __syncthreads();
  if (!at.inside(s)) return;
  int found[kOwn] = {};
  for (int bit = 8 * sizeof(T) - 1; bit >= 0; --bit) {
    int candidate[kOwn], below[kOwn] = {};
#pragma unroll
    for (int i = 0; i < kOwn; ++i) candidate[i] = found[i] | 1 << bit;
    for (int z = at.z; z <= at.z + 2 * kDeep; ++z)
      for (int y = at.y; y <= at.y + 2 * kRadius; ++y) {
        const T* row = near[z][y] + kOwn * at.word;
#pragma unroll
        for (int x = 0; x < kSize + kOwn - 1; ++x) {
          const int value = row[x];
#pragma unroll
          for (int i = 0; i < kOwn; ++i)
            if (x >= i && x < i + kSize) below[i] += value < candidate[i];
        }
      }
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (below[i] <= kHalf) found[i] = candidate[i];
  }
  T* out = result + at.start + at.place(s);
  const int own = at.own(s);
#pragma unroll
  for (int i = 0; i < kOwn; ++i)
    if (i < own) out[i] = static_cast<T>(found[i]);
}

template <class T, bool kFlat>
void launch(cudaStream_t stream, Shape s, const void* score, int size, void* result) {
  const auto run = [&](auto kernel) {
    kernel<<<Tile<kFlat>::blocks(s), kThreads, 0, stream>>>(s, static_cast<const T*>(score), static_cast<T*>(result));
  };
  switch (size) {
    case 1: return run(median_kernel<T, 1, kFlat>);
    case 3: return run(median_kernel<T, 3, kFlat>);
    case 5: return run(median_kernel<T, 5, kFlat>);
    default: return run(median_kernel<T, 7, kFlat>);
  }
}

}  // namespace

cudaError_t median(cudaStream_t stream, Type type, Shape s, const void* score, int size, void* result) {
  if (type == Type::u8)
    s.flat ? launch<uint8_t, true>(stream, s, score, size, result) : launch<uint8_t, false>(stream, s, score, size, result);
  else
    s.flat ? launch<uint16_t, true>(stream, s, score, size, result)
           : launch<uint16_t, false>(stream, s, score, size, result);
  return cudaGetLastError();
}

}  // namespace gpu
