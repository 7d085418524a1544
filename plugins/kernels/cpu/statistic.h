// The statistic of one row or column, and the division by it.
//
// float32 sums are exact enough because of how they are cut: 64 independent accumulators (an add every cycle instead of
// one every four), folded into a double every kChunk elements, so that an accumulator takes at most 32 terms. A product
// and a sum are rounded separately (no fused multiply-add: it would be no faster, as these loops wait for loads), and
// an element's accumulator depends on its index alone: every instruction-set level gives the same bits.
//
// A statistic that float32 cannot hold (squares that overflow, or are lost to underflow while epsilon does not hide it)
// is redone in float64, where neither can happen: the square of every finite float32 is a normal float64.
#pragma once

#include "kernels/cpu/norm.h"
#include "kernels/cpu/pairs.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// The root mean squares of some rows or columns (epsilon, rms_epsilon and rms_min included), and their reciprocals,
// each as the sum of two float32.
template <int kCount>
struct Statistics {
  double rms[kCount];
  float high[kCount];    // 1 / rms; for a float32 quotient rounded towards zero
  float low[kCount];     // the rest, for a float32 quotient: never zero, so that infinity * (high + low) is infinity
  int64_t wide[kCount];  // not 0: float32 cannot hold it: divide in float64, by rms
};

RMS_DEPLOY_INLINE Doubles root_mean_squares(Doubles sums, const Problem& p) {
  const Doubles mean = sums / static_cast<double>(p.statistics_size);
  const Doubles root = square_root(mean + static_cast<double>(p.epsilon)) + static_cast<double>(p.rms_epsilon);
  const Doubles least = Doubles{} + static_cast<double>(p.rms_min);
  return root < least ? least : root;  // a NaN stays
}

// Not 0 where a float32 sum of squares is not as good as a float64 one: it overflowed, or what underflow may have taken
// (2^-126 per element) is not below half a unit in the last place of mean + epsilon; or it is NaN. So it is for an rms
// beyond 2^64, which rms_epsilon or rms_min may give: a term of its reciprocal could be subnormal.
RMS_DEPLOY_INLINE auto float32_lacks(Doubles sums, Doubles rms, const Problem& p) {
  const double least = (0x1p-100 - static_cast<double>(p.epsilon)) * static_cast<double>(p.statistics_size);
  const double most = 0x1p+126 * static_cast<double>(p.statistics_size);
  return ~((sums >= least) & (sums <= most) & (rms <= 0x1p+64));
}

// The statistics of `sums`, which has memory for whole vectors. In vectors, because two divisions and a root take as
// long as all else of a row of 64 elements. Returns whether one of them, or of what fills the last vector, is wide.
template <class T, int kCount>
static bool take_statistics(const double* sums, int64_t count, const Problem& p, Statistics<kCount>& s) {
  static_assert(kCount % kDoubles == 0, "whole vectors");
  decltype(float32_lacks(Doubles{}, Doubles{}, p)) any_wide = {};
  for (int64_t i = 0; i < count; i += kDoubles) {
    using Floats = float __attribute__((vector_size(kDoubles * sizeof(float))));
    const Doubles rms = root_mean_squares(load(sums + i), p);
    const auto wide = float32_lacks(load(sums + i), rms, p);
    any_wide |= wide;
    const Doubles reciprocal = 1.0 / rms;
    Floats high = __builtin_convertvector(reciprocal, Floats);
    Floats low = {};
    if constexpr (std::is_same_v<T, float>) {
      const Doubles nearest = __builtin_convertvector(high, Doubles);
      const Doubles below = nearest > reciprocal ? nearest * (1.0 - 0x1p-24) : nearest;  // then the float32 below
      high = __builtin_convertvector(below, Floats);
      const Doubles rest = reciprocal - __builtin_convertvector(high, Doubles);
      low = __builtin_convertvector(rest > 0.0 ? rest : below * 0x1p-60, Floats);
    }
    store(s.rms + i, rms);
    std::memcpy(s.high + i, &high, sizeof high);
    std::memcpy(s.low + i, &low, sizeof low);
    std::memcpy(s.wide + i, &wide, sizeof wide);
  }
  if (p.round_reciprocal) {
    for (int64_t i = 0; i < count; ++i) {
      s.high[i] = to_float(from_float<T>(s.high[i]));
    }
  }
  return (any_wide[0] | any_wide[1] | any_wide[2] | any_wide[3]) != 0;
}

// Sets a statistic that float64 gave. Where its reciprocal is rounded to a 16-bit T, the product with that is the
// result, and nothing is divided.
template <class T, int kCount>
static void set_wide(double rms, const Problem& p, Statistics<kCount>& s, int64_t i) {
  s.rms[i] = rms;
  if (p.round_reciprocal && !std::is_same_v<T, float>) {
    s.high[i] = to_float(from_float<T>(static_cast<float>(1.0 / rms)));
    s.wide[i] = 0;
  }
}

RMS_DEPLOY_INLINE double root_mean_square(double sum_of_squares, const Problem& p) {
  return root_mean_squares(Doubles{} + sum_of_squares, p)[0];
}

// x / rms. For a float32 result it is rounded once: x * (high + low) by one fused multiply-add. Two operations that
// pipeline, where a division takes four times as long as the memory and, with rms rounded to float32, would round
// twice. For a 16-bit result one product is enough: two roundings of 2^-24 change one element in some thousands.
template <class T>
RMS_DEPLOY_INLINE Vector divide(Vector x, Vector high, Vector low) {
  if constexpr (!std::is_same_v<T, float>) {
    return x * high;
  } else if constexpr (kHasFma) {
    return fma(x, high, x * low);
  } else {  // the product of two float32 is exact in float64, and so, but for a few in a billion, is the result
    using Wide = double __attribute__((vector_size(kWidth * sizeof(double))));
    const Wide product = __builtin_convertvector(x, Wide) * __builtin_convertvector(high, Wide);
    return __builtin_convertvector(product + __builtin_convertvector(x * low, Wide), Vector);
  }
}

// The same for one element, with statistic `i`, which may need float64.
template <class T, int kCount>
RMS_DEPLOY_INLINE float divide_one(float x, const Statistics<kCount>& s, int64_t i) {
  const double wide_x = static_cast<double>(x);
  if (s.wide[i]) {
    return static_cast<float>(wide_x / s.rms[i]);
  }
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(wide_x * static_cast<double>(s.high[i]) + static_cast<double>(x * s.low[i]));
  } else {
    return x * s.high[i];
  }
}

RMS_DEPLOY_INLINE float scale_at(const Problem& p, int64_t i) {
  switch (p.scale_type) {
    case contract::ElementType::kFloat32:
      return static_cast<const float*>(p.scale)[i];
    case contract::ElementType::kFloat16:
      return to_float(static_cast<const Float16*>(p.scale)[i]);
    case contract::ElementType::kBFloat16:
      return to_float(static_cast<const BFloat16*>(p.scale)[i]);
  }
  return 0.0F;
}

// Scale applied in float32, or to the rounded quotient and itself rounded to T.
template <class T, bool kRoundFirst>
RMS_DEPLOY_INLINE Vector scaled(Vector quotient, Vector scale) {
  if constexpr (kRoundFirst && std::is_same_v<T, BFloat16>) {
    return vector_of(bfloat16_rounded(quotient)) * scale;
  } else if constexpr (kRoundFirst) {
    return round_to<T>(quotient) * scale;
  } else {
    return quotient * scale;
  }
}

template <class T, bool kRoundFirst>
RMS_DEPLOY_INLINE T scaled_one(float quotient, float scale) {
  if constexpr (kRoundFirst) {
    return from_float<T>(to_float(from_float<T>(quotient)) * to_float(from_float<T>(scale)));
  } else {
    return from_float<T>(quotient * scale);
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
