// The 16-bit element types and their conversions, the one definition that CPU and CUDA share.
// Rounding from float32 is to nearest, ties to even. Subnormals are exact, also where the CPU flushes those of float32
// to zero. A NaN stays a NaN: quiet and with its leading payload bits, as F16C and AVX-512 convert it; a GPU has one
// NaN of its own.
//
// On a GPU the conversions are single instructions that give the same bits.
//
// Every function has internal linkage: the same header is compiled at several instruction-set levels, and the linker
// must never put one level's copy into another level's code.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define RMS_DEPLOY_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define RMS_DEPLOY_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace rms_deploy {

struct Float16 {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

// A value of a 16-bit type in the memory of a float32: each load and each store rounds to Half.
template <class Half>
struct Held {
  float value;
};

template <class T>
struct IsHeld {
  static constexpr bool value = false;
};

template <class Half>
struct IsHeld<Held<Half>> {
  static constexpr bool value = true;
};

template <class T>
inline constexpr bool kIsHeld = IsHeld<T>::value;

namespace rounding {

static RMS_DEPLOY_HOST_DEVICE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static RMS_DEPLOY_HOST_DEVICE float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace rounding

static RMS_DEPLOY_HOST_DEVICE float to_float(float value) { return value; }

static RMS_DEPLOY_HOST_DEVICE float to_float(BFloat16 value) {
  return rounding::float_of(static_cast<uint32_t>(value.bits) << 16);
}

static RMS_DEPLOY_HOST_DEVICE float to_float(Float16 value) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  const uint32_t sign = (value.bits & 0x8000U) << 16;
  const uint32_t magnitude = value.bits & 0x7fffU;
  if (magnitude < 0x0400U) {  // zero or subnormal: an integer multiple of 2^-24
    return rounding::float_of(sign | rounding::bits_of(static_cast<float>(magnitude) * 0x1p-24F));
  }
  if (magnitude < 0x7c00U) {
    return rounding::float_of(sign | ((magnitude << 13) + ((127U - 15U) << 23)));
  }
  const uint32_t quiet = magnitude > 0x7c00U ? 0x00400000U : 0U;
  return rounding::float_of(sign | 0x7f800000U | quiet | ((magnitude & 0x03ffU) << 13));
#endif
}

// A static template: its specialisations have internal linkage too.
template <class T>
static T from_float(float value) = delete;

template <>
RMS_DEPLOY_HOST_DEVICE float from_float<float>(float value) {
  return value;
}

template <>
RMS_DEPLOY_HOST_DEVICE BFloat16 from_float<BFloat16>(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  BFloat16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  const uint32_t bits = rounding::bits_of(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return {static_cast<uint16_t>((bits >> 16) | 0x0040U)};
  }
  return {static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
#endif
}

template <>
RMS_DEPLOY_HOST_DEVICE Float16 from_float<Float16>(float value) {
#if defined(__CUDA_ARCH__)
  Float16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  const uint32_t bits = rounding::bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {
    return {static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x01ffU))};
  }
  if (magnitude >= 0x477ff000U) {  // 65520 and above round to infinity
    return {static_cast<uint16_t>(sign | 0x7c00U)};
  }
  if (magnitude < 0x38800000U) {  // below 2^-14; 0.5 has the unit in the last place of a float16 subnormal, 2^-24
    const float aligned = rounding::float_of(magnitude) + 0.5F;
    return {static_cast<uint16_t>(sign | (rounding::bits_of(aligned) - 0x3f000000U))};
  }
  const uint32_t rounded = magnitude + 0x0fffU + ((magnitude >> 13) & 1U);
  return {static_cast<uint16_t>(sign | ((rounded - ((127U - 15U) << 23)) >> 13))};
#endif
}

template <class Half>
static RMS_DEPLOY_HOST_DEVICE float to_float(Held<Half> held) {
  return to_float(from_float<Half>(held.value));
}

template <>
RMS_DEPLOY_HOST_DEVICE Held<Float16> from_float<Held<Float16>>(float value) {
  return {to_float(from_float<Float16>(value))};
}

template <>
RMS_DEPLOY_HOST_DEVICE Held<BFloat16> from_float<Held<BFloat16>>(float value) {
  return {to_float(from_float<BFloat16>(value))};
}

}  // namespace rms_deploy
