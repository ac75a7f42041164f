// Thin edges of a label map, and their gradient through the label map of logits.
#include "device.cuh"

namespace gpu {
namespace {

struct Position {
  int64_t z, y, x;
};
__device__ inline Position position_of(const Shape& s, int64_t voxel) {
  const int64_t row = voxel / s.width;
  return {row / s.height, row % s.height, voxel - row * s.width};
}

template <class T> __global__ void label_edges_kernel(Shape s, const uint8_t* labels, Axes weights, T* edges) {
  const Place p = place_of<1>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels();
  const Position at = position_of(s, p.voxel);
  const uint8_t* here = labels + p.batch * voxels + p.voxel;
  T* out = edges + p.batch * (s.flat ? 2 : 3) * voxels + p.voxel;
  const auto put = [&](bool exists, int64_t step, float weight) {
    *out = narrow<T>(exists && here[step] != here[0] ? weight : 0.0f);
    out += voxels;
  };
  if (!s.flat) put(at.z + 1 < s.depth, s.height * s.width, weights.z);
  put(at.y + 1 < s.height, s.width, weights.y);
  put(at.x + 1 < s.width, 1, weights.x);
}

// The neighbours that an edge joins to a voxel: their labels, and what the edges pull with.
struct Near {
  int label[6];
  float pull[6];
  __device__ float towards(int k) const {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < 6; ++j) sum -= label[j] == k ? pull[j] : 0.0f;
    return sum;
  }
};

template <class T>
__device__ inline void look(const T* gradient, const uint8_t* labels, int64_t step, bool before, bool after,
                            float weight, int j, Near& near) {
  near.label[j] = before ? labels[-step] : -1;
  near.pull[j] = before ? widen(gradient[-step]) * weight : 0.0f;
  near.label[j + 1] = after ? labels[step] : -1;
  near.pull[j + 1] = after ? widen(gradient[0]) * weight : 0.0f;
}

template <class T>
__global__ void backward_kernel(Shape s, const T* gradient, const T* logits, const uint8_t* labels, Axes weights,
                                float temperature, T* result) {
  const Place p = place_of<1>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels(), start = p.batch * s.channels * voxels + p.voxel;
  const Position at = position_of(s, p.voxel);
  const uint8_t* label = labels + p.batch * voxels + p.voxel;
  const T* g = gradient + p.batch * (s.flat ? 2 : 3) * voxels + p.voxel;
  Near near;
  near.label[0] = near.label[1] = -1;
  near.pull[0] = near.pull[1] = 0;
  if (!s.flat) {
    look(g, label, s.height * s.width, at.z > 0, at.z + 1 < s.depth, weights.z, 0, near);
    g += voxels;
  }
  look(g, label, s.width, at.y > 0, at.y + 1 < s.height, weights.y, 2, near);
  look(g + voxels, label, 1, at.x > 0, at.x + 1 < s.width, weights.x, 4, near);
  bool pulled = false;
#pragma unroll
  for (int j = 0; j < 6; ++j) pulled |= near.pull[j] != 0;
  const float scale = 1.0f / temperature;
  const int classes = static_cast<int>(s.channels);
  Softmax softmax;
  if (pulled) {
    const T* row = logits + start;
#pragma unroll 4
    for (int k = 0; k < classes; ++k, row += voxels) softmax.add(widen(*row) * scale, near.towards(k));
    softmax.close();
  }
  const T* row = logits + start;
  T* out = result + start;
#pragma unroll 4
  for (int k = 0; k < classes; ++k, row += voxels, out += voxels)
    *out = narrow<T>(pulled ? softmax.gradient(widen(*row) * scale, near.towards(k)) * scale : 0.0f);
}

}  // namespace

cudaError_t label_edges(cudaStream_t stream, Type type, Shape s, const uint8_t* labels, Axes weights, void* edges) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    label_edges_kernel<T><<<blocks_of(s.batch * s.voxels()), kThreads, 0, stream>>>(s, labels, weights,
                                                                                  static_cast<T*>(edges));
  });
}

cudaError_t argmax_edges_backward(cudaStream_t stream, Type type, Shape s, const void* gradient, const void* logits,
                                  const uint8_t* labels, Axes weights, float temperature, void* result) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    backward_kernel<T><<<blocks_of(s.batch * s.voxels()), kThreads, 0, stream>>>(
        s, static_cast<const T*>(gradient), static_cast<const T*>(logits), labels, weights, temperature,
        static_cast<T*>(result));
  });
}

}  // namespace gpu
