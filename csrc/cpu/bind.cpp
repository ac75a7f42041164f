// The Python module anatomad.kernels._cpu: raw addresses in, nothing out. It knows nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "memory.h"

#define ANATOMAD_LEVEL declarations
#include "kernels.h"
#undef ANATOMAD_LEVEL

#define DECLARE(level) \
  namespace level {    \
  extern const Kernels kernels; \
  }
#ifdef ANATOMAD_X86
DECLARE(v2)
DECLARE(v3)
DECLARE(v4)
#else
DECLARE(generic)
#endif

namespace py = pybind11;

namespace {

struct Level {
  std::string name;
  const Kernels* kernels;
};

std::vector<Level> levels() {
#ifdef ANATOMAD_X86
  std::vector<Level> found;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    found.push_back({"x86-64-v4", &v4::kernels});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    found.push_back({"x86-64-v3", &v3::kernels});
  if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))
    found.push_back({"x86-64-v2", &v2::kernels});
  return found;
#else
  return {{"generic", &generic::kernels}};
#endif
}

using Address = std::uintptr_t;
using Sizes = std::array<int64_t, 5>;

template <class T = void> T* at(Address address) { return reinterpret_cast<T*>(address); }

Shape shape(const Sizes& sizes, bool flat, int threads) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], flat, threads};
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "Operators for CPU; see anatomad/kernels/backends/cpp.py, its only caller.";
  using Weights = std::array<float, 3>;
  using Channels = std::array<int, 3>;
  using Release = py::call_guard<py::gil_scoped_release>;

  py::enum_<Type>(m, "Type")
      .value("fp32", Type::fp32)
      .value("bf16", Type::bf16)
      .value("fp16", Type::fp16)
      .value("u8", Type::u8)
      .value("u16", Type::u16);
  py::class_<Shape>(m, "Shape").def(py::init(&shape), py::arg("sizes"), py::arg("flat"), py::arg("threads"));

  // One object for each level that this processor has, the best first.
  py::class_<Level>(m, "Level")
      .def_readonly("name", &Level::name)
      .def("label_map", [](const Level& l, Type t, Shape s, Address x, Address y) { l.kernels->label_map(t, s, at(x), at<uint8_t>(y)); },
           Release())
      .def("one_hot_argmax",
           [](const Level& l, Type t, Shape s, Address x, bool on, uint64_t seed, Address y) {
             l.kernels->one_hot_argmax(t, s, at(x), {on, seed}, at(y));
           },
           Release())
      .def("one_hot_argmax_backward",
           [](const Level& l, Type t, Shape s, Address g, Address x, float temperature, bool on, uint64_t seed,
              Address y) { l.kernels->one_hot_argmax_backward(t, s, at(g), at(x), temperature, {on, seed}, at(y)); },
           Release())
      .def("label_edges",
           [](const Level& l, Type t, Shape s, Address x, Weights w, Channels c, int axes, Address y) {
             l.kernels->label_edges(t, s, at<uint8_t>(x), w.data(), c.data(), axes, at(y));
           },
           Release())
      .def("argmax_edges_backward",
           [](const Level& l, Type t, Shape s, Address g, Address x, Address labels, Weights w, Channels c, int axes,
              float temperature, Address y) {
             l.kernels->argmax_edges_backward(t, s, at(g), at(x), at<uint8_t>(labels), w.data(), c.data(), axes,
                                              temperature, at(y));
           },
           Release())
      .def("edge_magnitude",
           [](const Level& l, Type t, Shape s, Address x, Weights w, float eps, Address y) {
             l.kernels->edge_magnitude(t, s, at<uint8_t>(x), w.data(), eps, at(y));
           },
           Release())
      .def("edge_magnitude_backward",
           [](const Level& l, Type t, Shape s, Address g, Address e, Address labels, Address x, Weights w,
              float temperature, Address y) {
             l.kernels->edge_magnitude_backward(t, s, at(g), at(e), at<uint8_t>(labels), at(x), w.data(), temperature,
                                                at(y));
           },
           Release())
      .def("sobel",
           [](const Level& l, Type t, Shape s, Address x, Weights w, float eps, Address y) {
             l.kernels->sobel(t, s, at(x), w.data(), eps, at(y));
           },
           Release())
      .def("sobel_backward",
           [](const Level& l, Type t, Shape s, Address g, Address x, Weights w, float eps, Address y) {
             l.kernels->sobel_backward(t, s, at(g), at(x), w.data(), eps, at(y));
           },
           Release())
      .def("median", [](const Level& l, Type t, Shape s, Address x, int size, Address y) { l.kernels->median(t, s, at(x), size, at(y)); },
           Release())
      .def("resample_argmax",
           [](const Level& l, Type t, Shape s, Address x, std::array<float, 12> matrix, Shape output, Address y) {
             l.kernels->resample_argmax(t, s, at(x), matrix.data(), output, at<uint8_t>(y));
           },
           Release())
      .def("contrast",
           [](const Level& l, Shape s, Address labels, Address means, Address spreads, int classes, uint64_t seed,
              Address y) {
             return l.kernels->contrast(s, at<uint8_t>(labels), at<float>(means), at<float>(spreads), classes, seed,
                                        at<float>(y));
           },
           Release())
      .def("soft_contrast",
           [](const Level& l, Shape s, Address shares, Address means, Address spreads, uint64_t seed, Address y) {
             l.kernels->soft_contrast(s, at<float>(shares), at<float>(means), at<float>(spreads), seed, at<float>(y));
           },
           Release())
      .def("group_norm_silu",
           [](const Level& l, Type t, Shape s, Address x, Address w, Address b, int groups, float eps, Address y,
              Address mean, Address rstd) {
             l.kernels->group_norm_silu(t, s, at(x), at<float>(w), at<float>(b), groups, eps, at(y), at<float>(mean),
                                        at<float>(rstd));
           },
           Release())
      .def("group_norm_silu_backward",
           [](const Level& l, Type t, Shape s, Address g, Address x, Address mean, Address rstd, Address w, Address b,
              int groups, Address y, Address weight, Address bias) {
             l.kernels->group_norm_silu_backward(t, s, at(g), at(x), at<float>(mean), at<float>(rstd), at<float>(w),
                                                 at<float>(b), groups, at(y), at<float>(weight), at<float>(bias));
           },
           Release());
  m.def("levels", &levels);
  py::class_<Block>(m, "Block", py::buffer_protocol()).def(py::init<size_t>(), py::arg("bytes")).def_buffer([](Block& b) {
    return py::buffer_info(static_cast<uint8_t*>(b.address()), static_cast<py::ssize_t>(b.bytes()));
  });
}
