// The backward pass of a norm on the CPU: a problem and a range of its parts; nothing of any framework.
//
// With r the root mean square of x with its three epsilons, s the root alone, k = statistics_size and u = x / r:
//
//   grad_x_i   = (g_i - u_i * sum_j(g_j x_j) / (k s)) / r + grad_sum_i      g = scale * grad_y; the middle term is
//   there
//                                                                        for i < k where r is not rms_min
//   grad_scale = sum(u * grad_y) over what scale was broadcast along
//
// in float32, rounded once. The statistic is computed again from x: x must be read anyway, and a sum of squares costs
// less beside the other sum than a tensor that is kept.
//
// The work is cut into parts that do not depend on the number of threads; a part is computed by one thread in one
// order, its share of grad_scale is kept apart, and the shares are added in the order of the parts: results are bit for
// bit the same for any number of threads.
#pragma once

#include <cstdint>

#include "kernels/cpu/dispatch.h"

namespace rms_deploy::cpu {

struct Gradient {
  Problem norm;  // x (add-norm: the sum), scale, sizes and epsilons; the other tensors are not looked at
  const void* grad_y = nullptr;    // T
  const void* grad_sum = nullptr;  // T; null: zero
  void* grad_x = nullptr;          // T; null: not wanted
  const float* factors = nullptr;  // scale, one factor for each of the n, padded with zeros: see scale_factors
  double* shares = nullptr;        // part_count x n: of grad_scale; null: not wanted
};

// Units (see norm.h) of one part.
int64_t units_per_part(const Problem& problem);

inline int64_t part_count(const Problem& problem) {
  const int64_t units = unit_count(problem);
  return units == 0 ? 0 : (units - 1) / units_per_part(problem) + 1;
}

// Float32 that a thread needs as scratch.
inline int64_t scratch_size(const Problem& problem) { return problem.inner == 1 ? 2 * padded(problem.n) : 0; }

// Writes the factors: `factors` has padded(n) elements.
void scale_factors(const Problem& problem, float* factors);

// Computes one part.
using GradientFunction = void (*)(const Gradient& gradient, int64_t part, float* scratch);

GradientFunction gradient_function(const Level& level);

// Adds the shares of all parts and rounds to the type of scale: n elements, or one where scale has one.
void reduce_shares(const Gradient& gradient, void* grad_scale);

}  // namespace rms_deploy::cpu
