// The operators for CPU. Every source file is compiled once per instruction-set level, in a namespace of its own;
// bind.cpp takes the best level that the processor has.
//
// Tensors are contiguous [batch, channel, depth, height, width]; 2D has depth 1 and `flat` set, and its depth axis
// plays no part. Weights stand in the order depth, height, width.
#pragma once
#include <cstdint>

#include "../common/numeric.h"

enum class Type { fp32, bf16, fp16, u8, u16 };

struct Shape {
  int64_t batch, channels, depth, height, width;
  bool flat;
  int threads;
  int64_t voxels() const { return depth * height * width; }
};

struct Gumbel {
  bool on;
  uint64_t seed;
};

struct Kernels {
  void (*label_map)(Type, Shape, const void* logits, uint8_t* labels);
  void (*one_hot_argmax)(Type, Shape, const void* logits, Gumbel, void* one_hot);
  void (*one_hot_argmax_backward)(Type, Shape, const void* gradient, const void* logits, float temperature, Gumbel,
                                  void* result);
  // channel[d] is where the edges along axis d go, or -1 for nowhere; `channels` is then the number of axes.
  void (*label_edges)(Type, Shape, const uint8_t* labels, const float* weights, const int* channel, int axes,
                      void* edges);
  void (*argmax_edges_backward)(Type, Shape, const void* gradient, const void* logits, const uint8_t* labels,
                                const float* weights, const int* channel, int axes, float temperature, void* result);
  void (*edge_magnitude)(Type, Shape, const uint8_t* labels, const float* weights, float eps, void* magnitude);
  void (*edge_magnitude_backward)(Type, Shape, const void* gradient, const void* magnitude, const uint8_t* labels,
                                  const void* logits, const float* weights, float temperature, void* result);
  void (*sobel)(Type, Shape, const void* image, const float* weights, float eps, void* magnitude);
  void (*sobel_backward)(Type, Shape, const void* gradient, const void* image, const float* weights, float eps,
                         void* result);
  void (*median)(Type, Shape, const void* score, int size, void* result);
  void (*resample_argmax)(Type, Shape, const void* logits, const float* matrix, Shape output, uint8_t* labels);
  // Returns false, with nothing to rely on in the image, if a label has no class.
  bool (*contrast)(Shape, const uint8_t* labels, const float* means, const float* spreads, int classes, uint64_t seed,
                   float* image);
  void (*soft_contrast)(Shape, const float* shares, const float* means, const float* spreads, uint64_t seed,
                        float* image);
  // Channels lie innermost in x, y, gradient and result; mean and rstd are [batch, group].
  void (*group_norm_silu)(Type, Shape, const void* x, const float* weight, const float* bias, int groups, float eps,
                          void* y, float* mean, float* rstd);
  void (*group_norm_silu_backward)(Type, Shape, const void* gradient, const void* x, const float* mean,
                                   const float* rstd, const float* weight, const float* bias, int groups, void* result,
                                   float* weight_result, float* bias_result);
};

namespace ANATOMAD_LEVEL {

extern const Kernels kernels;

void label_map(Type, Shape, const void*, uint8_t*);
void one_hot_argmax(Type, Shape, const void*, Gumbel, void*);
void one_hot_argmax_backward(Type, Shape, const void*, const void*, float, Gumbel, void*);
void label_edges(Type, Shape, const uint8_t*, const float*, const int*, int, void*);
void argmax_edges_backward(Type, Shape, const void*, const void*, const uint8_t*, const float*, const int*, int, float,
                           void*);
void edge_magnitude(Type, Shape, const uint8_t*, const float*, float, void*);
void edge_magnitude_backward(Type, Shape, const void*, const void*, const uint8_t*, const void*, const float*, float,
                             void*);
void sobel(Type, Shape, const void*, const float*, float, void*);
void sobel_backward(Type, Shape, const void*, const void*, const float*, float, void*);
void median(Type, Shape, const void*, int, void*);
void resample_argmax(Type, Shape, const void*, const float*, Shape, uint8_t*);
bool contrast(Shape, const uint8_t*, const float*, const float*, int, uint64_t, float*);
void soft_contrast(Shape, const float*, const float*, const float*, uint64_t, float*);
void group_norm_silu(Type, Shape, const void*, const float*, const float*, int, float, void*, float*, float*);
void group_norm_silu_backward(Type, Shape, const void*, const void*, const float*, const float*, const float*,
                              const float*, int, void*, float*, float*);

// Calls f with a value of the element type.
template <class F> inline void with_float(Type type, F f) {
  switch (type) {
    case Type::fp32: return f(float{});
    case Type::bf16: return f(bf16{});
    default: return f(fp16{});
  }
}

}  // namespace ANATOMAD_LEVEL
