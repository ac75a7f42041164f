// The operators for CUDA devices. Tensors are contiguous [batch, channel, depth, height, width] on the current device;
// 2D has depth 1 and `flat` set, and its depth axis plays no part. Weights stand in the order depth, height, width.
// Every function queues its work on the stream and returns what the launch said.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

enum class Type { fp32, bf16, fp16, u8, u16 };

struct Shape {
  int64_t batch, channels, depth, height, width;
  bool flat;
  __host__ __device__ int64_t voxels() const { return depth * height * width; }
};

struct Gumbel {
  bool on;
  uint64_t seed;
};

struct Axes {
  float z, y, x;
};

struct Matrix {
  float value[12];  // 3 rows of 4; 2D leaves the first row and column at zero
};

namespace gpu {

cudaError_t label_map(cudaStream_t, Type, Shape, const void* logits, uint8_t* labels);
cudaError_t one_hot_argmax(cudaStream_t, Type, Shape, const void* logits, Gumbel, void* one_hot);
cudaError_t one_hot_argmax_backward(cudaStream_t, Type, Shape, const void* gradient, const void* logits,
                                    float temperature, Gumbel, void* result);
cudaError_t label_edges(cudaStream_t, Type, Shape, const uint8_t* labels, Axes weights, void* edges);
cudaError_t argmax_edges_backward(cudaStream_t, Type, Shape, const void* gradient, const void* logits,
                                  const uint8_t* labels, Axes weights, float temperature, void* result);
cudaError_t edge_magnitude(cudaStream_t, Type, Shape, const uint8_t* labels, Axes scales, float eps, void* magnitude);
cudaError_t edge_magnitude_backward(cudaStream_t, Type, Shape, const void* gradient, const void* magnitude,
                                    const uint8_t* labels, const void* logits, Axes weights, float temperature,
                                    void* result);
cudaError_t sobel(cudaStream_t, Type, Shape, const void* image, Axes scales, float eps, void* magnitude);
cudaError_t sobel_backward(cudaStream_t, Type, Shape, const void* gradient, const void* image, Axes weights, float eps,
                           void* result);
cudaError_t median(cudaStream_t, Type, Shape, const void* score, int size, void* result);
cudaError_t resample_argmax(cudaStream_t, Type, Shape, const void* logits, Matrix, Shape output, uint8_t* labels);
cudaError_t contrast(cudaStream_t, Shape, const uint8_t* labels, const float* means, const float* spreads, int classes,
                     uint64_t seed, float* image);
cudaError_t soft_contrast(cudaStream_t, Shape, const float* shares, const float* means, const float* spreads,
                          uint64_t seed, float* image);

}  // namespace gpu
