// The op contract for C++ and CUDA. rms_deploy/ops/contract.py says the same to Python; tests/ops/test_contract.py
// holds the two together. kDomain is also the namespace of the TensorRT plugins.
//
//   y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)
//
// X is seen as (outer, n, inner), where n is the size of the contiguous block of axes. `scale` has one element or n;
// its shape broadcasts against X and is 1 outside the block. Statistics are float32.
#pragma once

#include <cstdint>

namespace rms_deploy::contract {

inline constexpr const char* kDomain = "rms_deploy";
inline constexpr int kVersion = 1;
inline constexpr const char* kPluginVersion = "1";

inline constexpr const char* kRMSNorm = "RMSNorm";                // (X: T, scale: S) -> Y: T
inline constexpr const char* kPartialRMSNorm = "PartialRMSNorm";  // (X: T, scale: S) -> Y: T
inline constexpr const char* kAddRMSNorm = "AddRMSNorm";          // (X: T, R: T, scale: S) -> Y: T, Sum: T
// The same, but x is multiplied by 1 / rms rounded to `scale_type`, and then by scale, each in that type.
inline constexpr const char* kRMSNormReciprocal = "RMSNormReciprocal";
inline constexpr const char* kPartialRMSNormReciprocal = "PartialRMSNormReciprocal";
inline constexpr const char* kAddRMSNormReciprocal = "AddRMSNormReciprocal";

// Element types, numbered as in ONNX. T is any of them; S is T or kFloat32.
enum class ElementType : int32_t { kFloat32 = 1, kFloat16 = 10, kBFloat16 = 16 };

// Attributes and their defaults.
inline constexpr const char* kAxes = "axes";
inline constexpr int64_t kAxesDefault[] = {-1};
inline constexpr const char* kEpsilon = "epsilon";
inline constexpr float kEpsilonDefault = 1e-6F;
inline constexpr const char* kRmsEpsilon = "rms_epsilon";
inline constexpr float kRmsEpsilonDefault = 0.0F;
inline constexpr const char* kRmsMin = "rms_min";
inline constexpr float kRmsMinDefault = 0.0F;
// float32: one rounding, at the end, in each of the ops. The type of X: round, then scale.
inline constexpr const char* kScaleType = "scale_type";
inline constexpr int64_t kScaleTypeDefault = 1;
inline constexpr const char* kPartialSize = "partial_size";  // partial ops only; required

}  // namespace rms_deploy::contract
