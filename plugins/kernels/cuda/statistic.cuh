// The statistic of one row or column, the division by it, and the scale.
//
// A statistic is a float32 sum. Where float32 cannot hold it (squares that overflow, or are lost to underflow while
// epsilon does not hide it) it is summed again in float64, where neither can happen: the square of every finite float32
// is a normal float64. The division stays in float32 even then, by a power of two and a factor near one.
#pragma once

#include <cmath>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pack.cuh"

namespace rms_deploy::cuda {

// x / rms = x * power * factor
struct Divisor {
  float power;   // of two; 1 for a usual rms
  float factor;  // 1 / (rms * power)

  __device__ __forceinline__ float divide(float x) const { return x * power * factor; }
};

// 1 / sqrt(value) of a usual number, to one unit in the last place: the approximation and one step of Newton's.
__device__ __forceinline__ float inverse_root(float value) {
  const float root = rsqrt_approximately(value);
  return fmaf(0.5F * root, fmaf(-value * root, root, 1.0F), root);
}

// `inverse_size` is 1 / statistics_size. `holds` says whether float32 was enough: the sum did not overflow, and what
// underflow may have taken (2^-150 per element) is nothing beside mean + epsilon. A NaN is what float64 would give too.
__device__ __forceinline__ Divisor divisor_of(float sum_of_squares, const Problem& p, float inverse_size, bool& holds) {
  const float mean = sum_of_squares * inverse_size + p.epsilon;
  if (p.rms_epsilon == 0.0F && p.rms_min == 0.0F) {
    holds = !(mean < 0x1p-100F || mean > 0x1p+126F);
    return {1.0F, inverse_root(mean)};
  }
  const float root = sqrtf(mean) + p.rms_epsilon;
  const float rms = root < p.rms_min ? p.rms_min : root;  // a NaN stays
  holds = !(mean < 0x1p-100F || mean > 0x1p+126F || rms > 0x1p+126F);
  return {1.0F, 1.0F / rms};
}

// 2^exponent, for a float64 that is a normal number.
__device__ __forceinline__ double power_of_two(int exponent) {
  const int64_t bits = static_cast<int64_t>(exponent + 1023) << 52;
  double power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

__device__ __forceinline__ int exponent_of(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return static_cast<int>(bits >> 52 & 0x7ff) - 1023;
}

// The root of the mean square and epsilon, of a sum that only float64 can hold. The precision of float32 is enough: the
// root is taken of a number near one.
__device__ __forceinline__ double wide_root(double sum_of_squares, const Problem& p, float inverse_size) {
  const double mean = sum_of_squares * inverse_size + static_cast<double>(p.epsilon);
  const bool number = mean > 0.0 && mean <= 0x1p+300;  // not zero, infinity or NaN, whose root is themselves
  const int half = number ? exponent_of(mean) >> 1 : 0;
  return static_cast<double>(sqrtf(static_cast<float>(mean * power_of_two(-2 * half)))) * power_of_two(half);
}

__device__ __forceinline__ double wide_rms(double root, const Problem& p) {
  const double rms = root + static_cast<double>(p.rms_epsilon);
  return rms < static_cast<double>(p.rms_min) ? static_cast<double>(p.rms_min) : rms;
}

// The division by a number that only float64 can hold. Here too the quotient is that of a number near one.
__device__ __forceinline__ Divisor divisor_by(double rms) {
  // The power is at most 2^126, and the factor then stays below 2^30.
  const int exponent = rms > 0.0 && rms <= 0x1p+200 ? (rms < 0x1p-126 ? -126 : exponent_of(rms)) : 0;
  return {static_cast<float>(power_of_two(-exponent)), 1.0F / static_cast<float>(rms * power_of_two(-exponent))};
}

__device__ __forceinline__ Divisor wide_divisor(double sum_of_squares, const Problem& p, float inverse_size) {
  return divisor_by(wide_rms(wide_root(sum_of_squares, p, inverse_size), p));
}

// The divisor whose reciprocal, power * factor, is rounded to T, where the problem asks for it.
template <class T>
__device__ __forceinline__ Divisor reciprocal_rounded(const Divisor& divisor, const Problem& p) {
  if (sizeof(T) == 2 && p.round_reciprocal) {
    return {1.0F, to_float(from_float<T>(divisor.power * divisor.factor))};
  }
  return divisor;
}

// z / (1 + exp(-z)), or 1 / (1 + exp(-z)), to about three units in the last place; zero below -87.3. The first is a NaN
// for -infinity.
__device__ __forceinline__ float gate_of(contract::Gate gate, float z) {
  const float sigma = reciprocal_approximately(1.0F + expf(-z));
  return gate == contract::Gate::kSigmoid ? sigma : z * sigma;
}

// The square of an element of what is normalised: x, or x + residual rounded; in general also that sum as it is, or x
// times the gate in front of the norm.
template <class T, bool kGeneral = false>
__device__ __forceinline__ double wide_square(const Problem& p, int64_t i) {
  float value = to_float(static_cast<const T*>(p.x)[i]);
  if (kGeneral && p.gate == contract::Gate::kSiluFirst) {
    value *= gate_of(p.gate, to_float(static_cast<const T*>(p.operand)[i]));
  } else if (p.operand != nullptr && (!kGeneral || p.gate == contract::Gate::kNone)) {
    const bool is_wide = kGeneral && p.sum_type == contract::ElementType::kFloat32;
    value += is_wide ? static_cast<const float*>(p.operand)[i] : to_float(static_cast<const T*>(p.operand)[i]);
    value = kGeneral && p.normalizes_float32_sum ? value : to_float(from_float<T>(value));
  }
  return static_cast<double>(value) * static_cast<double>(value);
}

// Where the row of scale, or of shift, of an outer index begins.
template <class T>
__device__ __forceinline__ const void* weights_of(const Problem& p, const void* weights, int64_t outer) {
  if (p.scale_rows == 1) {
    return weights;
  }
  const int64_t bytes = p.scale_type == contract::ElementType::kFloat32 ? sizeof(float) : sizeof(T);
  return static_cast<const char*>(weights) + scale_offset(p, outer) * bytes;
}

template <class T>
__device__ __forceinline__ const void* scale_of(const Problem& p, int64_t outer) {
  return weights_of<T>(p, p.scale, outer);
}

template <class T>
__device__ __forceinline__ float scale_at(const Problem& p, const void* scale, int64_t i) {
  if constexpr (sizeof(T) == 2) {
    if (p.scale_type != contract::ElementType::kFloat32) {
      return to_float(T{__ldg(static_cast<const uint16_t*>(scale) + i)});
    }
  }
  return __ldg(static_cast<const float*>(scale) + i);
}

// The scale as it is applied: rounded to T first, or not. `scale` is what scale_of gave.
template <class T>
__device__ __forceinline__ float applied_scale(const Problem& p, const void* scale, int64_t i) {
  const float value = scale_at<T>(p, scale, p.scalar_scale ? 0 : i);
  return p.round_before_scale ? to_float(from_float<T>(value)) : value;
}

template <class T, int kCount>
__device__ __forceinline__ void round_to(Floats<T, kCount>& values, bool round) {
  if (sizeof(T) == 2 && round) {
    values = Floats<T, kCount>(values.rounded());
  }
}

}  // namespace rms_deploy::cuda
