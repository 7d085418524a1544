// What a norm does with elements of any type as vectors of float32: it rounds them to the type, and it loads and stores
// them as pairs of vectors, the last elements of a row as part of a pair.
#pragma once

#include "kernels/cpu/simd.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// Rounds each lane to T and back.
template <class T>
RMS_DEPLOY_INLINE Vector round_to(Vector value) {
  T rounded[kWidth];
  store(rounded, value);
  return load(rounded);
}

template <>
inline __attribute__((always_inline)) Vector round_to<float>(Vector value) {
  return value;
}

template <>
inline __attribute__((always_inline)) Vector round_to<BFloat16>(Vector value) {
  return vector_of(bfloat16_bits(value) << 16);
}

template <>
inline __attribute__((always_inline)) Vector round_to<Held<Float16>>(Vector value) {
  return round_to<Float16>(value);
}

template <>
inline __attribute__((always_inline)) Vector round_to<Held<BFloat16>>(Vector value) {
  return round_to<BFloat16>(value);
}

template <class Half>
RMS_DEPLOY_INLINE Vector load(const Held<Half>* from) {
  return round_to<Half>(load(&from->value));
}

template <class Half>
RMS_DEPLOY_INLINE void store(Held<Half>* to, Vector value) {
  store(&to->value, round_to<Half>(value));
}

// Stores past the caches, where the level has it for the type.
template <class T>
RMS_DEPLOY_INLINE void stream(T* to, Vector value) {
  store(to, value);
}

// Makes streamed stores visible to other threads before what this thread does next.
RMS_DEPLOY_INLINE void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// A pair: 2 x kWidth elements as two vectors. float32 and float16 are in order. bfloat16 has the even elements in the
// first vector and the odd ones in the second, which costs two operations to read and three to put together, in place
// of four and six: a bfloat16 is the upper half of a float32.
constexpr int kPair = 2 * kWidth;

template <class T>
constexpr bool kEvenOdd = std::is_same_v<T, BFloat16>;

template <class T>
RMS_DEPLOY_INLINE void load_pair(const T* from, Vector (&pair)[2]) {
  pair[0] = load(from);
  pair[1] = load(from + kWidth);
}

template <>
inline __attribute__((always_inline)) void load_pair<BFloat16>(const BFloat16* from, Vector (&pair)[2]) {
  Bits both;
  std::memcpy(&both, from, sizeof both);
  pair[0] = vector_of(both << 16);
  pair[1] = vector_of(both & 0xffff0000U);
}

// Stores a pair, and leaves the stored values in it, rounded to T. With kStream the store goes past the caches, and
// `to` must be aligned to the bytes of a Vector. A NaN that becomes a bfloat16 must have zeros in its low 16 bits, as
// it has if it was loaded from a bfloat16.
template <bool kStream, class T>
RMS_DEPLOY_INLINE void store_pair(T* to, Vector (&pair)[2]) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const Bits both = bfloat16_pair(pair[0], pair[1]);
    float* const words = reinterpret_cast<float*>(to);
    kStream ? stream(words, vector_of(both)) : store(words, vector_of(both));
    pair[0] = vector_of(both << 16);
    pair[1] = vector_of(both & 0xffff0000U);
  } else {
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      kStream ? stream(to + half * kWidth, pair[half]) : store(to + half * kWidth, pair[half]);
      pair[half] = round_to<T>(pair[half]);
    });
  }
}

// The first `count` (< kPair) elements of a pair; the others are zero, and are not stored. Not inlined: it runs
// once a row at most, but is called in every part of every kernel.
template <class T>
static __attribute__((noinline)) void load_partial_pair(const T* from, int64_t count, Vector (&pair)[2]) {
  T padded[kPair] = {};
  for (int64_t i = 0; i < count; ++i) {
    padded[i] = from[i];
  }
  load_pair(padded, pair);
}

template <class T>
static __attribute__((noinline)) void store_partial_pair(T* to, Vector (&pair)[2], int64_t count) {
  T padded[kPair];
  store_pair<false>(padded, pair);
  for (int64_t i = 0; i < count; ++i) {
    to[i] = padded[i];
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
