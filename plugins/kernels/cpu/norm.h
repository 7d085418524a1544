// The interface of the CPU kernels: a problem and a range of its units. It knows no framework.
//
// The work is cut into units that do not depend on the number of threads, and a unit is computed by one thread in one
// order: results are bit for bit the same for any number of threads. Units: the rows (inner = 1), or blocks of kColumns
// columns (inner > 1).
#pragma once

#include <cstdint>

#include "kernels/problem.h"

namespace rms_deploy::cpu {

// Columns of one unit when inner > 1: two passes over n x 256 float32 stay in a usual L2 up to n = 512.
inline constexpr int64_t kColumns = 256;

// Memory of float32 factors and scratch is in whole blocks of this many: a pair of vectors of the widest level.
inline constexpr int64_t kFactorBlock = 32;

inline int64_t padded(int64_t n) { return (n + kFactorBlock - 1) / kFactorBlock * kFactorBlock; }

struct Problem : rms_deploy::Problem {
  bool held_in_float32 = false;  // T is a 16-bit type, but all tensors are float32 in memory; with round_before_scale
  bool stream = false;           // y is stored past the caches, where the next reader would not find it anyway
  const float* ordered_scale = nullptr;  // scale as the OrderFunction of this level wrote it; null: not at hand
};

// Whether it needs more than rows.h and columns.h have; its inner is 1.
inline bool is_general(const Problem& problem) {
  const bool has_float32_sum = problem.normalizes_float32_sum && problem.type != contract::ElementType::kFloat32;
  const bool has_mixed_sum = problem.operand != nullptr && problem.sum_type != problem.type;
  return problem.gate != contract::Gate::kNone || problem.shift != nullptr || has_float32_sum || has_mixed_sum;
}

inline int64_t unit_count(const Problem& problem) {
  return problem.inner == 1 ? problem.outer : problem.outer * ((problem.inner + kColumns - 1) / kColumns);
}

// Computes the units first ... last - 1. Units are independent of each other.
using NormFunction = void (*)(const Problem& problem, int64_t first, int64_t last);

// Writes a scale of n elements as the rows are scaled by it: in float32, rounded as the problem rounds it, in the order
// of the level's vectors. `ordered` has padded(n) elements. Of the problem, only types, options, scale and n are read.
using OrderFunction = void (*)(const Problem& problem, float* ordered);

}  // namespace rms_deploy::cpu
