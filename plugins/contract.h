// The op contract for C++ and CUDA. rms_deploy/ops/contract.py says the same to Python; tests/ops/test_contract.py
// holds the two together. kDomain is also the namespace of the TensorRT plugins.
//
//   y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)
//
// X is seen as (outer, n, inner), where n is the size of the contiguous block of axes. Along the block `scale` has one
// element or n, in front of it one row or several: see node.cpp. Statistics are float32.
#pragma once

#include <cstdint>

namespace rms_deploy::contract {

inline constexpr const char* kDomain = "rms_deploy";
inline constexpr int kVersion = 1;
inline constexpr const char* kPluginVersion = "1";

// What a gate multiplies by, in float32: x before the norm (First), or its result.
enum class Gate : uint8_t { kNone, kSilu, kSiluFirst, kSigmoid };

// The parts of an op. Its name follows from them; R and Z have the shape of X.
struct Kind {
  const char* name;
  bool is_add;
  bool is_partial;
  bool is_reciprocal;  // 1 / rms is rounded to `scale_type`, and x and then scale are multiplied in that type
  Gate gate;           // the axes then end with the last
};

inline constexpr Kind kKinds[] = {
    {"RMSNorm", false, false, false, Gate::kNone},                 // (X: T, scale: S) -> Y: T
    {"PartialRMSNorm", false, true, false, Gate::kNone},           // (X: T, scale: S) -> Y: T
    {"AddRMSNorm", true, false, false, Gate::kNone},               // (X: T, R: T, scale: S) -> Y: T, Sum: T
    {"RMSNormReciprocal", false, false, true, Gate::kNone},        // (X: T, scale: S) -> Y: T
    {"PartialRMSNormReciprocal", false, true, true, Gate::kNone},  // (X: T, scale: S) -> Y: T
    {"AddRMSNormReciprocal", true, false, true, Gate::kNone},      // (X: T, R: T, scale: S) -> Y: T, Sum: T
    {"RMSNormSiluGate", false, false, false, Gate::kSilu},         // (X: T, Z: T, scale: S) -> Y: T
    {"SiluGateRMSNorm", false, false, false, Gate::kSiluFirst},    // (X: T, Z: T, scale: S) -> Y: T
    {"RMSNormSigmoidGate", false, false, false, Gate::kSigmoid},   // (X: T, Z: T, scale: S) -> Y: T
};

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
