// The rounding of a number to the 8 bits of a quantised type, the one definition that CPU and CUDA share: to nearest,
// ties to even, saturated.
#pragma once

#include <cmath>

#include "contract.h"
#include "kernels/rounding.h"

namespace rms_deploy {

namespace rounding {

// A float32 has its nearest integer in its lowest bits once this is added to it: 1.5 * 2^23.
inline constexpr float kIntegers = 12582912.0F;

// -128 for a NaN.
static RMS_DEPLOY_HOST_DEVICE uint32_t int8_of(float value) {
  return bits_of(fminf(fmaxf(value, -128.0F), 127.0F) + kIntegers) & 0xffU;
}

// A sign, 4 bits of exponent, 3 of mantissa; no infinity, and 448 is the largest number. Below 2^-6 a code is a
// multiple of 2^-9, the unit in the last place of 2^14.
static RMS_DEPLOY_HOST_DEVICE uint32_t float8_of(float value) {
  const uint32_t sign = bits_of(value) >> 24 & 0x80U;
  const uint32_t magnitude = bits_of(value) & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {
    return sign | 0x7fU;
  }
  if (magnitude < 0x3c800000U) {
    return sign | (bits_of(float_of(magnitude) + 0x1p14F) - 0x46800000U);
  }
  const uint32_t most = 0x43e00000U;
  const uint32_t finite = magnitude < most ? magnitude : most;
  return sign | (finite + 0x7ffffU + (finite >> 20 & 1U) - ((127U - 7U) << 23)) >> 20;
}

}  // namespace rounding

// Two neighbours, the first in the lower byte.
static RMS_DEPLOY_HOST_DEVICE uint32_t quantized_pair(contract::QuantizedType type, float first, float second) {
  if (type == contract::QuantizedType::kInt8) {
    return rounding::int8_of(first) | rounding::int8_of(second) << 8;
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(second), "f"(first));
  return codes;
#else
  return rounding::float8_of(first) | rounding::float8_of(second) << 8;
#endif
}

}  // namespace rms_deploy
