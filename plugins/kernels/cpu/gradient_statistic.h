// What the backward pass needs of a row or column besides its elements.
#pragma once

#include "kernels/cpu/gradient.h"
#include "kernels/cpu/statistic.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

template <int kCount>
struct GradientStatistics {
  double rms[kCount];
  double along[kCount];   // sum(g x) / (k s): how much of u is taken from g; 0 where r does not vary with x
  float inverse[kCount];  // 1 / rms
  float along_float32[kCount];
  int64_t wide[kCount];  // not 0: float32 cannot hold it: go on in float64
};

// s; without epsilons of the root.
RMS_DEPLOY_INLINE Doubles roots(Doubles squares, const Problem& p) {
  return square_root(squares / static_cast<double>(p.statistics_size) + static_cast<double>(p.epsilon));
}

RMS_DEPLOY_INLINE Doubles shares_along(Doubles dots, Doubles root, const Problem& p) {
  const Doubles along = dots / (root * static_cast<double>(p.statistics_size));
  const Doubles rms = root + static_cast<double>(p.rms_epsilon);
  const Doubles least = Doubles{} + static_cast<double>(p.rms_min);
  const Doubles varying = rms > least ? along : Doubles{};
  return root > 0.0 ? varying : Doubles{};
}

// Both sums have memory for whole vectors. Wide is what is wide in the forward pass; a sum of products that left
// float32; and a root below 2^-32, where a product of x and g loses to underflow what u and g would keep.
template <int kCount>
static void take_gradient_statistics(const double* squares, const double* dots, int64_t count, const Problem& p,
                                     GradientStatistics<kCount>& s) {
  static_assert(kCount % kDoubles == 0, "whole vectors");
  for (int64_t i = 0; i < count; i += kDoubles) {
    using Floats = float __attribute__((vector_size(kDoubles * sizeof(float))));
    const Doubles rms = root_mean_squares(load(squares + i), p);
    const Doubles along = shares_along(load(dots + i), roots(load(squares + i), p), p);
    store(s.rms + i, rms);
    store(s.along + i, along);
    const Floats inverse = __builtin_convertvector(1.0 / rms, Floats);
    const Floats narrow = __builtin_convertvector(along, Floats);
    std::memcpy(s.inverse + i, &inverse, sizeof inverse);
    std::memcpy(s.along_float32 + i, &narrow, sizeof narrow);
    const auto held = (rms >= 0x1p-32) & (along <= 0x1p+127) & (along >= -0x1p+127);  // not an overflow or a NaN
    const auto wide = float32_lacks(load(squares + i), rms, p) | ~held;
    std::memcpy(s.wide + i, &wide, sizeof wide);
  }
}

// The same, of `size` elements that are `stride` apart, in float64 from the start.
template <class T, int kCount>
static void take_wide_statistics(const T* x, const T* grad, const float* factors, int64_t stride, const Problem& p,
                                 GradientStatistics<kCount>& s, int64_t slot) {
  double squares = 0.0;
  double dot = 0.0;
  for (int64_t k = 0; k < p.n; ++k) {
    const double v = static_cast<double>(to_float(x[k * stride]));
    squares += k < p.statistics_size ? v * v : 0.0;
    dot += v * static_cast<double>(to_float(grad[k * stride])) * static_cast<double>(factors[k]);
  }
  s.rms[slot] = root_mean_square(squares, p);
  s.along[slot] = shares_along(Doubles{} + dot, roots(Doubles{} + squares, p), p)[0];
}

// One element in float64: u, and grad_x without grad_sum.
struct WideElement {
  double normed;
  double grad_x;
};

template <int kCount>
RMS_DEPLOY_INLINE WideElement wide_element(double x, double grad, double factor, bool in_statistic,
                                           const GradientStatistics<kCount>& s, int64_t slot) {
  const double normed = x / s.rms[slot];
  const bool varies = in_statistic && s.along[slot] != 0.0;
  return {normed, (grad * factor - (varies ? normed * s.along[slot] : 0.0)) / s.rms[slot]};
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
