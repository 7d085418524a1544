// The gates of a vector of float32: z / (1 + exp(-z)). To about two units in the last place, the same bits at every
// instruction-set level.
#pragma once

#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// exp(x) = 2^k * exp(r), where k is the integer nearest to x / log(2) and |r| <= log(2) / 2; exp(r) by its Taylor
// polynomial of degree 7, whose rest is below 2^-27 of it. Infinity above 88.7, and zero below -104.
RMS_DEPLOY_INLINE Vector exponential(Vector x) {
  using Integers = int32_t __attribute__((vector_size(kWidth * sizeof(int32_t))));
  constexpr float kInverseLog2 = 0x1.715476p+0F;
  constexpr float kLog2High = 0x1.62e4p-1F;  // few bits: its product with k is exact
  constexpr float kLog2Low = 0x1.7f7d1cp-20F;
  constexpr float kToInteger = 0x1.8p+23F;  // added, it leaves no bits behind the point
  constexpr float kCoefficients[] = {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 1.0F / 2, 1.0F, 1.0F};
  x = x < -105.0F ? broadcast(-105.0F) : x;
  x = x > 100.0F ? broadcast(100.0F) : x;
  const Vector nearest = (x * kInverseLog2 + kToInteger) - kToInteger;
  const Vector k = nearest == nearest ? nearest : Vector{};  // a NaN stays in `rest`
  const Vector rest = (x - k * kLog2High) - k * kLog2Low;
  Vector sum = broadcast(1.0F / 5040);
  for (const float coefficient : kCoefficients) {
    sum = sum * rest + coefficient;
  }
  const Integers power = __builtin_convertvector(k, Integers);
  const Integers half = power >> 1;  // two powers, each of which is a normal number
  const Vector first = vector_of(reinterpret_cast<Bits>((half + 127) << 23));
  const Vector second = vector_of(reinterpret_cast<Bits>((power - half + 127) << 23));
  return sum * first * second;
}

RMS_DEPLOY_INLINE Vector gate_of([[maybe_unused]] contract::Gate gate, Vector z) {
  return z / (1.0F + exponential(-z));
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
