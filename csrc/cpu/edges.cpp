// Where the label changes towards the next voxel, and the way back to the logits.
#include <vector>

#include "classes.h"

namespace ANATOMAD_LEVEL {
namespace {

struct Steps {
  int64_t size[3], stride[3];
  explicit Steps(Shape s) : size{s.depth, s.height, s.width}, stride{s.height * s.width, s.width, 1} {}
};

template <class T>
void forward(Shape s, const uint8_t* labels, const float* weights, const int* channel, int axes, T* edges) {
  const Steps steps(s);
  const int64_t voxels = s.voxels(), rows = s.depth * s.height;
#pragma omp parallel for num_threads(s.threads)
  for (int64_t job = 0; job < s.batch * rows; ++job) {
    const int64_t b = job / rows, place[2] = {job % rows / s.height, job % s.height};
    const uint8_t* here = labels + job * s.width;
    for (int axis = 0; axis < 3; ++axis) {
      if (channel[axis] < 0) continue;
      T* out = edges + (b * axes + channel[axis]) * voxels + job % rows * s.width;
      T weight;
      narrow(weights[axis], weight);
      int64_t n = axis == 2 ? s.width - 1 : place[axis] + 1 < steps.size[axis] ? s.width : 0;
      const uint8_t* there = here + steps.stride[axis];
#pragma omp simd
      for (int64_t x = 0; x < n; ++x) out[x] = here[x] != there[x] ? weight : T{};
      std::fill(out + n, out + s.width, T{});
    }
  }
}

// The six neighbours of a piece of a row: their labels, and the pull of the edge between.
struct Neighbours {
  int32_t label[6][kBlock];
  float pull[6][kBlock];
  bool present[256];
  bool pulled;
};

template <class T>
void neighbours(Shape s, const Steps& steps, const T* gradient, const uint8_t* labels, const float* weights,
                const int* channel, const int64_t (&place)[3], int n, Neighbours& out) {
  const int64_t voxels = s.voxels();
  const int64_t at = place[0] * steps.stride[0] + place[1] * steps.stride[1] + place[2];
  std::fill_n(out.present, s.channels, false);
  out.pulled = false;
  for (int axis = 0; axis < 3; ++axis)
    for (int after = 0; after < 2; ++after) {
      int32_t* label = out.label[2 * axis + after];
      float* pull = out.pull[2 * axis + after];
      std::fill_n(pull, n, 0.0f);
      std::fill_n(label, n, -1);
      if (channel[axis] < 0) continue;
      const int64_t step = after ? steps.stride[axis] : -steps.stride[axis];
      const int64_t first = place[axis], size = steps.size[axis];
      int from = 0, to = n;
      if (axis == 2) {
        from = !after && first == 0;
        to = after && first + n == size ? n - 1 : n;
      } else if (after ? first + 1 >= size : first == 0) {
        continue;
      }
      const T* g = gradient + channel[axis] * voxels + at + (after ? 0 : step);
      const uint8_t* l = labels + at + step;
      bool any = false;
      for (int i = from; i < to; ++i) {
        pull[i] = widen(g[i]) * weights[axis];
        label[i] = l[i];
        any |= pull[i] != 0;
      }
      if (!any) continue;
      out.pulled = true;
      for (int i = from; i < to; ++i) out.present[l[i]] = true;
    }
}

template <class T>
void backward(Shape s, const T* gradient, const T* logits, const uint8_t* labels, const float* weights,
              const int* channel, int axes, float temperature, T* result) {
  const Steps steps(s);
  const int classes = static_cast<int>(s.channels);
  const int64_t voxels = s.voxels(), rows = s.depth * s.height, pieces = (s.width + kBlock - 1) / kBlock;
#pragma omp parallel num_threads(s.threads)
  {
    std::vector<float> space(2 * classes * kBlock);
    auto e = reinterpret_cast<float(*)[kBlock]>(space.data());
    auto towards = e + classes;
    std::vector<const float*> upstream(classes);
    Neighbours near;
#pragma omp for
    for (int64_t job = 0; job < s.batch * rows * pieces; ++job) {
      const int64_t row = job / pieces % rows, b = job / pieces / rows;
      const int64_t place[3] = {row / s.height, row % s.height, job % pieces * kBlock};
      const int n = static_cast<int>(std::min<int64_t>(kBlock, s.width - place[2]));
      const int64_t start = b * classes * voxels + row * s.width + place[2];
      neighbours(s, steps, gradient + b * axes * voxels, labels + b * voxels, weights, channel, place, n, near);
      if (!near.pulled) {
        fill_zero(result + start, voxels, classes, n);
        continue;
      }
      for (int k = 0; k < classes; ++k) {
        upstream[k] = near.present[k] ? towards[k] : nullptr;
        if (!near.present[k]) continue;
#pragma omp simd
        for (int i = 0; i < n; ++i) {
          float sum = 0;
          for (int j = 0; j < 6; ++j) sum -= near.label[j][i] == k ? near.pull[j][i] : 0.0f;
          towards[k][i] = sum;
        }
      }
      softmax_gradient(logits + start, voxels, upstream.data(), classes, n, temperature, e, result + start, voxels);
    }
  }
}

}  // namespace

void label_edges(Type type, Shape s, const uint8_t* labels, const float* weights, const int* channel, int axes,
                 void* edges) {
  with_float(type,
             [&](auto t) { forward(s, labels, weights, channel, axes, static_cast<decltype(t)*>(edges)); });
}

void argmax_edges_backward(Type type, Shape s, const void* gradient, const void* logits, const uint8_t* labels,
                           const float* weights, const int* channel, int axes, float temperature, void* result) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    backward(s, static_cast<const T*>(gradient), static_cast<const T*>(logits), labels, weights, channel, axes,
             temperature, static_cast<T*>(result));
  });
}

}  // namespace ANATOMAD_LEVEL
