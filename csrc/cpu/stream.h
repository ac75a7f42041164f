// Rows of results that are too large for a cache to keep: written past it, which spares reading what is overwritten.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ANATOMAD_LEVEL {

constexpr int64_t kStreamed = int64_t{8} << 20;  // bytes from which whoever reads a result next finds it in no cache

// Copies n floats; `from` starts a cache line. Other threads see them after streamed().
inline void stream_row(const float* from, int n, float* to) {
  int i = 0;
#if defined(__AVX512F__)
  if (reinterpret_cast<uintptr_t>(to) % 64 == 0)
    for (; i + 16 <= n; i += 16) _mm512_stream_ps(to + i, _mm512_load_ps(from + i));
#elif defined(__AVX__)
  if (reinterpret_cast<uintptr_t>(to) % 32 == 0)
    for (; i + 8 <= n; i += 8) _mm256_stream_ps(to + i, _mm256_load_ps(from + i));
#elif defined(__SSE2__)
  if (reinterpret_cast<uintptr_t>(to) % 16 == 0)
    for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
#endif
  std::memcpy(to + i, from + i, (n - i) * sizeof(float));
}

// Ends a thread's rows.
inline void streamed() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace ANATOMAD_LEVEL
