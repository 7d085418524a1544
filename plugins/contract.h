// The op contract for C++ and CUDA. rms_deploy/ops/contract.py says the same to Python; tests/ops/test_contract.py
// holds the two together. kDomain is also the namespace of the TensorRT plugins.
//
//   y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)
//
// X is seen as (outer, n, inner), where n is the size of the contiguous block of axes. Along the block `scale` has one
// element or n, in front of it one row or several: see node.cpp. `shift` has its shape. Statistics are float32.
#pragma once

#include <cstdint>

namespace rms_deploy::contract {

inline constexpr const char* kDomain = "rms_deploy";
inline constexpr int kVersion = 1;
inline constexpr const char* kPluginVersion = "1";

// What a gate multiplies by, in float32: x before the norm (First), or its result.
enum class Gate : uint8_t { kNone, kSilu, kSiluFirst, kSigmoid };

// What is normalised in the place of X: X + R, whose second output is Sum. Rounded to the type of R and then to that of
// X, or in float32 as it is.
enum class Sum : uint8_t { kNone, kRounded, kFloat32 };

// What is done last: a shift is added where the scale was applied, or Y is quantised after it was rounded to T.
enum class End : uint8_t { kNone, kShift, kQuantize };

// The parts of an op. Its name follows from them; R and Z have the shape of X. With a gate, a shift, a float32 sum,
// quantisation, or an R of another type than X the axes end with the last.
struct Kind {
  const char* name;
  Sum sum;
  bool is_partial;
  bool is_reciprocal;  // 1 / rms is rounded to `scale_type`, and x and then scale are multiplied in that type
  Gate gate;
  End end;

  constexpr bool is_add() const { return sum != Sum::kNone; }
  constexpr bool is_quantized() const { return end == End::kQuantize; }
};

inline constexpr Kind kKinds[] = {
    // (X: T, scale: S) -> Y: T
    {"RMSNorm", Sum::kNone, false, false, Gate::kNone, End::kNone},
    // (X: T, scale: S) -> Y: T
    {"PartialRMSNorm", Sum::kNone, true, false, Gate::kNone, End::kNone},
    // (X: T, R: U, scale: S) -> Y: T, Sum: U
    {"AddRMSNorm", Sum::kRounded, false, false, Gate::kNone, End::kNone},
    // (X: T, scale: S) -> Y: T
    {"RMSNormReciprocal", Sum::kNone, false, true, Gate::kNone, End::kNone},
    // (X: T, scale: S) -> Y: T
    {"PartialRMSNormReciprocal", Sum::kNone, true, true, Gate::kNone, End::kNone},
    // (X: T, R: U, scale: S) -> Y: T, Sum: U
    {"AddRMSNormReciprocal", Sum::kRounded, false, true, Gate::kNone, End::kNone},
    // (X: T, Z: T, scale: S) -> Y: T
    {"RMSNormSiluGate", Sum::kNone, false, false, Gate::kSilu, End::kNone},
    // (X: T, Z: T, scale: S) -> Y: T
    {"SiluGateRMSNorm", Sum::kNone, false, false, Gate::kSiluFirst, End::kNone},
    // (X: T, Z: T, scale: S) -> Y: T
    {"RMSNormSigmoidGate", Sum::kNone, false, false, Gate::kSigmoid, End::kNone},
    // (X: T, scale: S, shift: S) -> Y: T
    {"RMSNormShift", Sum::kNone, false, false, Gate::kNone, End::kShift},
    // (X: T, R: U, scale: S, shift: S) -> Y: T, Sum: U
    {"AddRMSNormShift", Sum::kRounded, false, false, Gate::kNone, End::kShift},
    // (X: T, R: U, scale: S) -> Y: T, Sum: U
    {"AddFloat32RMSNorm", Sum::kFloat32, false, false, Gate::kNone, End::kNone},
    // (X: T, scale: S) -> Y: Q
    {"RMSNormQuantize", Sum::kNone, false, false, Gate::kNone, End::kQuantize},
    // (X: T, R: U, scale: S) -> Y: Q, Sum: U
    {"AddRMSNormQuantize", Sum::kRounded, false, false, Gate::kNone, End::kQuantize},
};

// Element types, numbered as in ONNX. T is any of them; S and U are T or kFloat32.
enum class ElementType : int32_t { kFloat32 = 1, kFloat16 = 10, kBFloat16 = 16 };

// Q, the types of a quantised Y, numbered as in ONNX.
enum class QuantizedType : int32_t { kNone = 0, kInt8 = 3, kFloat8E4M3FN = 17 };

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
// Ops that quantise only; the first two are required.
inline constexpr const char* kYScale = "y_scale";
inline constexpr const char* kOutputDtype = "output_dtype";
// Float32, or the type of X: the quotient is rounded to it first.
inline constexpr const char* kPrecision = "precision";
inline constexpr int64_t kPrecisionDefault = 1;

}  // namespace rms_deploy::contract
