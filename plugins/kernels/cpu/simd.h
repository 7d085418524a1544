// One native vector of float32 of the level that this translation unit is compiled for: arithmetic by the compiler's
// vector extensions, loads and stores that convert, and a fused multiply-add where the level has one.
// Everything is in the level's namespace (RMS_DEPLOY_LEVEL), so that no code crosses between levels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/rounding.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define RMS_DEPLOY_INLINE static inline __attribute__((always_inline))

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
constexpr bool kHasStreams = true;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
constexpr bool kHasStreams = true;
#else
constexpr int kWidth = 4;
constexpr bool kHasStreams = false;
#endif

// Calls body(0), body(1) ... body(kCount - 1) with constants: an array of vectors that is indexed by them only stays in
// registers, which a loop that is unrolled later does not promise.
template <class Body, int... kIndex>
RMS_DEPLOY_INLINE void unrolled_over(const Body& body, std::integer_sequence<int, kIndex...>) {
  (body(std::integral_constant<int, kIndex>{}), ...);
}

template <int kCount, class Body>
RMS_DEPLOY_INLINE void unrolled(const Body& body) {
  unrolled_over(body, std::make_integer_sequence<int, kCount>{});
}

#define RMS_DEPLOY_BODY(index) [&](auto index) __attribute__((always_inline))

using Vector = float __attribute__((vector_size(kWidth * sizeof(float))));
using Bits = uint32_t __attribute__((vector_size(kWidth * sizeof(uint32_t))));

// Keeps a vector in its register. Compilers would load it again for a second operation, and these loops wait for loads.
RMS_DEPLOY_INLINE void keep(Vector& value) {
#if defined(__x86_64__)
  __asm__("" : "+v"(value));
#elif defined(__aarch64__)
  __asm__("" : "+w"(value));
#else
  static_cast<void>(value);
#endif
}

RMS_DEPLOY_INLINE Vector broadcast(float value) { return Vector{} + value; }

RMS_DEPLOY_INLINE Bits bits_of(Vector value) { return reinterpret_cast<Bits>(value); }

RMS_DEPLOY_INLINE Vector vector_of(Bits bits) { return reinterpret_cast<Vector>(bits); }

RMS_DEPLOY_INLINE Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

RMS_DEPLOY_INLINE void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

// Four float64 at every level, for the statistics of four rows.
constexpr int kDoubles = 4;
using Doubles = double __attribute__((vector_size(kDoubles * sizeof(double))));

RMS_DEPLOY_INLINE Doubles load(const double* from) {
  Doubles value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

RMS_DEPLOY_INLINE void store(double* to, Doubles value) { std::memcpy(to, &value, sizeof value); }

RMS_DEPLOY_INLINE Doubles square_root(Doubles value) {
#if defined(__AVX__)
  return (Doubles)_mm256_sqrt_pd((__m256d)value);
#else
  for (int lane = 0; lane < kDoubles; ++lane) {
    value[lane] = std::sqrt(value[lane]);
  }
  return value;
#endif
}

// bfloat16 bits of each lane, rounded to nearest even, in the low half of the lane. (AVX512-BF16's own instruction
// flushes subnormals to zero, so it is not used.)
RMS_DEPLOY_INLINE Bits bfloat16_bits(Vector value) {
  const Bits bits = bits_of(value);
  const Bits rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const Bits nan = (bits >> 16) | 0x0040U;
  return value == value ? rounded : nan;
}

// The rounded float32, whose upper half is the bfloat16. The lower half of a NaN must be zero.
RMS_DEPLOY_INLINE Bits bfloat16_rounded(Vector value) {
  const Bits bits = bits_of(value);
  return (bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U;
}

#if defined(__SSE4_1__)
RMS_DEPLOY_INLINE float add_four(__m128 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
#endif

#if defined(__AVX2__)
RMS_DEPLOY_INLINE float add_eight(__m256 v) {
  return add_four(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
#endif

#if defined(__AVX512F__)

constexpr bool kHasFma = true;

RMS_DEPLOY_INLINE float add_lanes(Vector v) {
  return add_eight(_mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1)));
}

RMS_DEPLOY_INLINE void stream(float* to, Vector value) { _mm512_stream_ps(to, (__m512)value); }

RMS_DEPLOY_INLINE void stream(Float16* to, Vector value) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
}

RMS_DEPLOY_INLINE Vector fma(Vector a, Vector b, Vector c) {
  return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

RMS_DEPLOY_INLINE Vector load(const Float16* from) {
  return (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

RMS_DEPLOY_INLINE void store(Float16* to, Vector value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
}

// The bfloat16 of two vectors, even elements in the lower halves of the lanes. Both are rounded at once, in lanes of 16
// bits: to the upper half of each float32 the carry is added out of its lower half + 0x7fff + the last bit that stays;
// the average is half of that sum, rounded up, and never overflows. The lower half of a NaN must be zero.
RMS_DEPLOY_INLINE Bits bfloat16_pair(Vector even, Vector odd) {
  const __m512i upper_half = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  const __m512i e = (__m512i)even;
  const __m512i o = (__m512i)odd;
  const __m512i upper = _mm512_ternarylogic_epi32(upper_half, o, _mm512_srli_epi32(e, 16), 0xca);
  const __m512i lower = _mm512_ternarylogic_epi32(upper_half, _mm512_slli_epi32(o, 16), e, 0xca);
  const __m512i bias = _mm512_ternarylogic_epi32(upper, _mm512_set1_epi16(1), _mm512_set1_epi16(0x7ffe), 0xea);
  return (Bits)_mm512_add_epi16(upper, _mm512_srli_epi16(_mm512_avg_epu16(lower, bias), 15));
}

RMS_DEPLOY_INLINE Vector load(const BFloat16* from) {
  return vector_of((Bits)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))) << 16);
}

RMS_DEPLOY_INLINE void store(BFloat16* to, Vector value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16((__m512i)bfloat16_bits(value)));
}

#elif defined(__AVX2__)

constexpr bool kHasFma = true;

RMS_DEPLOY_INLINE float add_lanes(Vector v) { return add_eight((__m256)v); }

RMS_DEPLOY_INLINE void stream(float* to, Vector value) { _mm256_stream_ps(to, (__m256)value); }

RMS_DEPLOY_INLINE void stream(Float16* to, Vector value) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
}

RMS_DEPLOY_INLINE Vector fma(Vector a, Vector b, Vector c) {
  return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

RMS_DEPLOY_INLINE Vector load(const Float16* from) {
  return (Vector)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

RMS_DEPLOY_INLINE void store(Float16* to, Vector value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
}

RMS_DEPLOY_INLINE Bits bfloat16_pair(Vector even, Vector odd) {
  const __m256i e = (__m256i)even;
  const __m256i o = (__m256i)odd;
  const __m256i upper = _mm256_blend_epi16(_mm256_srli_epi32(e, 16), o, 0xaa);
  const __m256i lower = _mm256_blend_epi16(e, _mm256_slli_epi32(o, 16), 0xaa);
  const __m256i bias = _mm256_or_si256(_mm256_and_si256(upper, _mm256_set1_epi16(1)), _mm256_set1_epi16(0x7ffe));
  return (Bits)_mm256_add_epi16(upper, _mm256_srli_epi16(_mm256_avg_epu16(lower, bias), 15));
}

RMS_DEPLOY_INLINE Vector load(const BFloat16* from) {
  return vector_of((Bits)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))) << 16);
}

RMS_DEPLOY_INLINE void store(BFloat16* to, Vector value) {
  const __m256i wide = (__m256i)bfloat16_bits(value);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
}

#else

#if defined(__aarch64__)
constexpr bool kHasFma = true;

RMS_DEPLOY_INLINE Vector fma(Vector a, Vector b, Vector c) {
  return (Vector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
constexpr bool kHasFma = false;

RMS_DEPLOY_INLINE Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }  // never called
#endif

#if defined(__SSE4_1__)
RMS_DEPLOY_INLINE float add_lanes(Vector v) { return add_four((__m128)v); }

RMS_DEPLOY_INLINE Bits load_16_bits(const void* from) {
  return (Bits)_mm_cvtepu16_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)));
}

RMS_DEPLOY_INLINE void store_16_bits(void* to, Bits bits) {
  _mm_storel_epi64(static_cast<__m128i*>(to), _mm_packus_epi32((__m128i)bits, (__m128i)bits));
}
#else
RMS_DEPLOY_INLINE float add_lanes(Vector v) { return (v[0] + v[2]) + (v[1] + v[3]); }

RMS_DEPLOY_INLINE Bits load_16_bits(const void* from) {
  uint16_t half[kWidth];
  std::memcpy(half, from, sizeof half);
  Bits bits = {};
  for (int lane = 0; lane < kWidth; ++lane) {
    bits[lane] = half[lane];
  }
  return bits;
}

RMS_DEPLOY_INLINE void store_16_bits(void* to, Bits bits) {
  uint16_t half[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) {
    half[lane] = static_cast<uint16_t>(bits[lane]);
  }
  std::memcpy(to, half, sizeof half);
}
#endif

// The float16 conversions of rounding.h, a vector at a time: the same cases, chosen by masks.
RMS_DEPLOY_INLINE Vector load(const Float16* from) {
  using Signed = int32_t __attribute__((vector_size(kWidth * sizeof(int32_t))));
  const Bits half = load_16_bits(from);
  const Bits magnitude = half & 0x7fffU;
  const Bits subnormal = bits_of(__builtin_convertvector((Signed)magnitude, Vector) * 0x1p-24F);
  const Bits normal = (magnitude << 13) + ((127U - 15U) << 23);
  const Bits special = (magnitude << 13) | (magnitude > 0x7c00U ? Bits{} + 0x7fc00000U : Bits{} + 0x7f800000U);
  const Bits finite = magnitude < 0x0400U ? subnormal : normal;
  return vector_of(((half & 0x8000U) << 16) | (magnitude < 0x7c00U ? finite : special));
}

RMS_DEPLOY_INLINE void store(Float16* to, Vector value) {
  const Bits bits = bits_of(value);
  const Bits magnitude = bits & 0x7fffffffU;
  const Bits subnormal = bits_of(vector_of(magnitude) + 0.5F) - 0x3f000000U;
  const Bits normal = (magnitude + 0x0fffU + ((magnitude >> 13) & 1U) - ((127U - 15U) << 23)) >> 13;
  const Bits nan = 0x7e00U | ((magnitude >> 13) & 0x01ffU);
  const Bits special = magnitude > 0x7f800000U ? nan : Bits{} + 0x7c00U;
  const Bits finite = magnitude < 0x38800000U ? subnormal : normal;
  store_16_bits(to, ((bits >> 16) & 0x8000U) | (magnitude < 0x477ff000U ? finite : special));
}

RMS_DEPLOY_INLINE Vector load(const BFloat16* from) { return vector_of(load_16_bits(from) << 16); }

RMS_DEPLOY_INLINE void store(BFloat16* to, Vector value) { store_16_bits(to, bfloat16_bits(value)); }

RMS_DEPLOY_INLINE Bits bfloat16_pair(Vector even, Vector odd) {
  return (bfloat16_rounded(even) >> 16) | bfloat16_rounded(odd);
}

#endif

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
