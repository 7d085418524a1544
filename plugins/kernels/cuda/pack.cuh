// 16 bytes, what a thread loads and stores at once: kWidth elements of T, kept packed in registers.
#pragma once

#include <cstdint>
#include <type_traits>

#include "contract.h"
#include "kernels/rounding.h"

namespace rms_deploy::cuda {

struct alignas(16) Pack {
  uint32_t words[4];
};

template <class T>
inline constexpr int kWidth = 16 / sizeof(T);

template <class T>
inline constexpr contract::ElementType kElementType = contract::ElementType::kFloat32;
template <>
inline constexpr contract::ElementType kElementType<Float16> = contract::ElementType::kFloat16;
template <>
inline constexpr contract::ElementType kElementType<BFloat16> = contract::ElementType::kBFloat16;

__device__ __forceinline__ uint32_t bits_of(float value) { return rounding::bits_of(value); }
__device__ __forceinline__ uint32_t bits_of(Float16 value) { return value.bits; }
__device__ __forceinline__ uint32_t bits_of(BFloat16 value) { return value.bits; }

template <class T>
__device__ __forceinline__ T element(const Pack& pack, int i) {
  if constexpr (sizeof(T) == 4) {
    return rounding::float_of(pack.words[i]);
  } else {
    return {static_cast<uint16_t>(pack.words[i / 2] >> (i % 2 * 16))};
  }
}

// Sets an element, which must be zero before.
template <class T>
__device__ __forceinline__ void set(Pack& pack, int i, T value) {
  if constexpr (sizeof(T) == 4) {
    pack.words[i] = bits_of(value);
  } else {
    pack.words[i / 2] |= bits_of(value) << (i % 2 * 16);
  }
}

// Two neighbours in one word; one instruction from sm_80 on.
template <class T>
__device__ __forceinline__ uint32_t rounded_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t word;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
#else
  return bits_of(from_float<T>(low)) | bits_of(from_float<T>(high)) << 16;
#endif
}

// The first kCount elements of a pack as float32.
template <class T, int kCount = kWidth<T>>
struct Floats {
  float each[kCount];

  Floats() = default;

  __device__ __forceinline__ explicit Floats(const Pack& pack) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      each[i] = to_float(element<T>(pack, i));
    }
  }

  __device__ __forceinline__ Pack rounded() const {
    Pack pack = {};
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        pack.words[i] = bits_of(each[i]);
      }
    } else if constexpr (kCount == 1) {
      pack.words[0] = bits_of(from_float<T>(each[0]));
    } else {
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        pack.words[i] = rounded_pair<T>(each[2 * i], each[2 * i + 1]);
      }
    }
    return pack;
  }
};

// Loads past L1, because nobody reads the pack there again; but not through the read-only path, because an output may
// have the same memory.
__device__ __forceinline__ Pack load_pack(const void* from) {
  const uint4 loaded = __ldcg(static_cast<const uint4*>(from));
  return {{loaded.x, loaded.y, loaded.z, loaded.w}};
}

// The first kBytes of a pack, at a multiple of kBytes.
template <int kBytes>
__device__ __forceinline__ Pack load_part(const void* from) {
  if constexpr (kBytes == 16) {
    return load_pack(from);
  } else if constexpr (kBytes == 8) {
    const uint2 loaded = __ldcg(static_cast<const uint2*>(from));
    return {{loaded.x, loaded.y}};
  } else if constexpr (kBytes == 4) {
    return {{__ldcg(static_cast<const uint32_t*>(from))}};
  } else {
    return {{__ldcg(static_cast<const uint16_t*>(from))}};
  }
}

// The compiler moves no load or store across this.
__device__ __forceinline__ void keep_order() { asm volatile("" ::: "memory"); }

// What nobody writes while the kernel runs.
__device__ __forceinline__ Pack load_constant_pack(const void* from) {
  const uint4 loaded = __ldg(static_cast<const uint4*>(from));
  return {{loaded.x, loaded.y, loaded.z, loaded.w}};
}

// The intrinsic is one store: an assignment may become four, where the compiler merges it with narrower ones.
__device__ __forceinline__ void store_pack(void* to, const Pack& pack) {
  __stcg(static_cast<uint4*>(to), uint4{pack.words[0], pack.words[1], pack.words[2], pack.words[3]});
}

// To about two units in the last place. Subnormal numbers are taken as zero.
__device__ __forceinline__ float rsqrt_approximately(float value) {
#if defined(__CUDACC__)
  float root;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(value));
  return root;
#else
  return 1.0F / sqrtf(value);
#endif
}

// To one unit in the last place. A reciprocal that is subnormal is zero.
__device__ __forceinline__ float reciprocal_approximately(float value) {
#if defined(__CUDACC__)
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(value));
  return reciprocal;
#else
  return 1.0F / value;
#endif
}

// The same number. The compiler takes it for another one, and so keeps nothing that was computed of the first.
__device__ __forceinline__ int64_t anew(int64_t number) {
#if defined(__CUDACC__)
  asm volatile("" : "+l"(number));
#endif
  return number;
}

template <int kBytes>
__device__ __forceinline__ void store_part(void* to, const Pack& pack) {
  if constexpr (kBytes == 16) {
    store_pack(to, pack);
  } else if constexpr (kBytes == 8) {
    __stcg(static_cast<uint2*>(to), uint2{pack.words[0], pack.words[1]});
  } else if constexpr (kBytes == 4) {
    __stcg(static_cast<uint32_t*>(to), pack.words[0]);
  } else {
    __stcg(static_cast<uint16_t*>(to), static_cast<uint16_t>(pack.words[0]));
  }
}

// Bytes from the multiple of 16 before an address.
__device__ __forceinline__ unsigned misalignment_of(const void* address) {
  return static_cast<unsigned>(reinterpret_cast<uintptr_t>(address) % 16);
}

// kWords words at any even address, put together from the packs that they lie in.
template <int kWords>
__device__ __forceinline__ void load_constant_words(const void* from, uint32_t (&words)[kWords]) {
  const unsigned skipped = misalignment_of(from);
  const char* packs = static_cast<const char*>(from) - skipped;
  uint32_t raw[kWords + 4] = {};
#pragma unroll
  for (int i = 0; i < kWords + 4; i += 4) {
    if (i < kWords || skipped != 0) {
      const Pack pack = load_constant_pack(packs + 4 * i);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        raw[i + j] = pack.words[j];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWords + 2; ++i) {
    raw[i] = (skipped & 8U) != 0 ? raw[i + 2] : raw[i];
  }
#pragma unroll
  for (int i = 0; i < kWords + 1; ++i) {
    raw[i] = (skipped & 4U) != 0 ? raw[i + 1] : raw[i];
  }
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    words[i] = __funnelshift_r(raw[i], raw[i + 1], (skipped & 2U) * 8);
  }
}

template <class T, int kCount = kWidth<T>>
__device__ __forceinline__ Pack added(const Pack& a, const Pack& b) {
  const Floats<T, kCount> left(a);
  const Floats<T, kCount> right(b);
  Floats<T, kCount> sum;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    sum.each[i] = left.each[i] + right.each[i];
  }
  return sum.rounded();
}

}  // namespace rms_deploy::cuda
