// The Python module anatomad.kernels._cuda: a stream and raw addresses in, nothing out. It knows nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <class T = void> T* at(Address address) { return reinterpret_cast<T*>(address); }
cudaStream_t stream(Address address) { return reinterpret_cast<cudaStream_t>(address); }
Axes axes(const std::array<float, 3>& a) { return {a[0], a[1], a[2]}; }

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "Operators for CUDA devices; see anatomad/kernels/backends/cuda.py, its only caller.";
  using Weights = std::array<float, 3>;

  // Local: the module for CPU has types of the same names.
  py::enum_<Type>(m, "Type", py::module_local())
      .value("fp32", Type::fp32)
      .value("bf16", Type::bf16)
      .value("fp16", Type::fp16)
      .value("u8", Type::u8)
      .value("u16", Type::u16);
  py::class_<Shape>(m, "Shape", py::module_local()).def(py::init([](const std::array<int64_t, 5>& n, bool flat) {
    return Shape{n[0], n[1], n[2], n[3], n[4], flat};
  }));

  m.def("driver", [] {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
  });
  m.attr("version") = CUDART_VERSION;
  m.def("label_map", [](Address q, Type t, Shape s, Address x, Address y) {
    check(gpu::label_map(stream(q), t, s, at(x), at<uint8_t>(y)));
  });
  m.def("one_hot_argmax", [](Address q, Type t, Shape s, Address x, bool on, uint64_t seed, Address y) {
    check(gpu::one_hot_argmax(stream(q), t, s, at(x), {on, seed}, at(y)));
  });
  m.def("one_hot_argmax_backward",
        [](Address q, Type t, Shape s, Address g, Address x, float temperature, bool on, uint64_t seed, Address y) {
          check(gpu::one_hot_argmax_backward(stream(q), t, s, at(g), at(x), temperature, {on, seed}, at(y)));
        });
  m.def("label_edges", [](Address q, Type t, Shape s, Address x, Weights w, Address y) {
    check(gpu::label_edges(stream(q), t, s, at<uint8_t>(x), axes(w), at(y)));
  });
  m.def("argmax_edges_backward", [](Address q, Type t, Shape s, Address g, Address x, Address labels, Weights w,
                                    float temperature, Address y) {
    check(gpu::argmax_edges_backward(stream(q), t, s, at(g), at(x), at<uint8_t>(labels), axes(w), temperature, at(y)));
  });
  m.def("edge_magnitude", [](Address q, Type t, Shape s, Address x, Weights squares, float eps, Address y) {
    check(gpu::edge_magnitude(stream(q), t, s, at<uint8_t>(x), axes(squares), eps, at(y)));
  });
  m.def("edge_magnitude_backward", [](Address q, Type t, Shape s, Address g, Address e, Address labels, Address x,
                                      Weights squares, float temperature, Address y) {
    check(gpu::edge_magnitude_backward(stream(q), t, s, at(g), at(e), at<uint8_t>(labels), at(x), axes(squares),
                                       temperature, at(y)));
  });
  m.def("sobel", [](Address q, Type t, Shape s, Address x, Weights scales, float eps, Address y) {
    check(gpu::sobel(stream(q), t, s, at(x), axes(scales), eps, at(y)));
  });
  m.def("sobel_backward", [](Address q, Type t, Shape s, Address g, Address x, Weights scales, float eps, Address y) {
    check(gpu::sobel_backward(stream(q), t, s, at(g), at(x), axes(scales), eps, at(y)));
  });
  m.def("median", [](Address q, Type t, Shape s, Address x, int size, Address y) {
    check(gpu::median(stream(q), t, s, at(x), size, at(y)));
  });
  m.def("resample_argmax",
        [](Address q, Type t, Shape s, Address x, const std::array<float, 12>& matrix, Shape output, Address y) {
          Matrix m;
          for (int i = 0; i < 12; ++i) m.value[i] = matrix[i];
          check(gpu::resample_argmax(stream(q), t, s, at(x), m, output, at<uint8_t>(y)));
        });
  m.def("contrast", [](Address q, Shape s, Address labels, Address means, Address spreads, int classes, uint64_t seed,
                       Address y) {
    check(gpu::contrast(stream(q), s, at<uint8_t>(labels), at<float>(means), at<float>(spreads), classes, seed,
                        at<float>(y)));
  });
  m.def("soft_contrast", [](Address q, Shape s, Address shares, Address means, Address spreads, uint64_t seed,
                            Address y) {
    check(gpu::soft_contrast(stream(q), s, at<float>(shares), at<float>(means), at<float>(spreads), seed,
                             at<float>(y)));
  });
}
