// The gates of a vector of float32: z / (1 + exp(-z)), or 1 / (1 + exp(-z)). To about two units in the last place, the
// same bits at every instruction-set level.
#pragma once

#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// exp(x) = 2^k * exp(r), where k is the integer nearest to x / log(2) and |r| <= log(2) / 2; exp(r) by its Taylor
// polynomial of degree 7, whose rest is below 2^-27 of it. Infinity above 88.4, and exp(-87) below -87.
RMS_DEPLOY_INLINE Vector exponential(Vector x) {
  constexpr float kInverseLog2 = 0x1.715476p+0F;
  constexpr float kLog2High = 0x1.62e4p-1F;  // few bits: its product with k is exact
  constexpr float kLog2Low = 0x1.7f7d1cp-20F;
  constexpr float kToInteger = 0x1.8p+23F;  // a sum with it has no bits behind the point, and k in its last bits
  constexpr float kCoefficients[] = {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 1.0F / 2, 1.0F, 1.0F};
  x = x < -87.0F ? broadcast(-87.0F) : x;
  x = x > 89.0F ? broadcast(89.0F) : x;
  const Vector shifted = x * kInverseLog2 + kToInteger;
  const Vector k = shifted - kToInteger;
  const Vector rest = (x - k * kLog2High) - k * kLog2Low;
  Vector sum = broadcast(1.0F / 5040);
  unrolled<7>(RMS_DEPLOY_BODY(i) { sum = sum * rest + kCoefficients[i]; });
  return sum * vector_of((bits_of(shifted) << 23) + 0x3f800000U);  // a NaN is in `sum`
}

RMS_DEPLOY_INLINE Vector gate_of(contract::Gate gate, Vector z) {
  const Vector numerator = gate == contract::Gate::kSigmoid ? broadcast(1.0F) : z;
  return numerator / (1.0F + exponential(-z));
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
