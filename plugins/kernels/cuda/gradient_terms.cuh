// What the elements of a row need of it for their gradients, and the gradient of one element.
#pragma once

#include "kernels/cuda/gradient_kernels.h"
#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

// Of a row: sum(x^2) over the statistic's elements, and sum(g x) with g = scale * grad_y.
template <class Sum>
struct RowSums {
  Sum squares;
  Sum dots;
};

// What the elements of a row need of it.
template <class Real>
struct RowTerms {
  Real inverse;  // 1 / r
  Real along;    // sum(g x) / (k s): how much of u is taken from g; 0 where r does not vary with x
};

// Partial sums, two for each warp; and of float32 two sets, for rows that follow each other: a warp that is ahead then
// writes where no other still reads. Between two sums of float64 there is always one of float32.
__device__ __forceinline__ float* pair_sums(float, int turn) {
  __shared__ float sums[2 * 2 * kWarp];
  return sums + turn * 2 * kWarp;
}

__device__ __forceinline__ double* pair_sums(double, int) {
  __shared__ double sums[2 * kWarp];
  return sums;
}

__device__ __forceinline__ float* column_shares() {
  __shared__ float shares[kReduceRows * kWarp];
  return shares;
}

// The sums over the threads of a row, the same bits in each. `turn` is 0 and 1 in turns.
template <class Sum>
__device__ __forceinline__ RowSums<Sum> sum_over_row(RowSums<Sum> value, int turn) {
  const int threads = static_cast<int>(blockDim.x);
#pragma unroll 1
  for (int offset = threads < kWarp ? threads / 2 : kWarp / 2; offset > 0; offset /= 2) {
    value.squares += __shfl_xor_sync(kAllLanes, value.squares, offset);
    value.dots += __shfl_xor_sync(kAllLanes, value.dots, offset);
  }
  if (threads > kWarp) {
    Sum* sums = pair_sums(Sum{}, turn);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    if (lane == 0) {
      sums[warp] = value.squares;
      sums[kWarp + warp] = value.dots;
    }
    __syncthreads();
    const bool is_warp = lane < threads / kWarp;
    value = {sum_over_lanes(is_warp ? sums[lane] : Sum{}, kWarp),
             sum_over_lanes(is_warp ? sums[kWarp + lane] : Sum{}, kWarp)};
  }
  return value;
}

template <class T>
__device__ __forceinline__ float factor_at(const Problem& p, int64_t i) {
  return scale_at<T>(p, p.scale, p.scalar_scale ? 0 : i);
}

// The terms in float32. `holds` says whether that was enough: the forward pass finds it enough, the sum of products did
// not overflow, and r is not so small that a product of x and g loses to underflow what u and g would keep.
__device__ __forceinline__ RowTerms<float> terms_of(const RowSums<float>& sums, const Problem& p, bool& holds) {
  const float k = static_cast<float>(p.statistics_size);
  const float inverse = divisor_of(sums.squares, p, 1.0F / k, holds).factor;
  const float root = sqrtf(sums.squares / k + p.epsilon);
  const bool varies = root > 0.0F && root + p.rms_epsilon > p.rms_min;
  const float along = varies ? sums.dots / (root * k) : 0.0F;
  holds = holds && !(inverse > 0x1p+32F) && (fabsf(along) <= 0x1p+127F || root != root);
  return {inverse, along};
}

// The terms of a row that only float64 can hold, from all of its elements; and the division by r in float32.
template <class T>
__device__ __forceinline__ RowTerms<double> wide_terms(const Gradient& gradient, int64_t row, Divisor& by_rms) {
  const Problem& p = gradient.norm;
  RowSums<double> sums = {0.0, 0.0};
#pragma unroll 1
  for (int64_t i = threadIdx.x; row < p.outer && i < p.n; i += blockDim.x) {
    const double x = static_cast<double>(to_float(static_cast<const T*>(p.x)[row * p.n + i]));
    const double grad = static_cast<double>(to_float(static_cast<const T*>(gradient.grad_y)[row * p.n + i]));
    sums.squares += i < p.statistics_size ? x * x : 0.0;
    sums.dots += x * grad * static_cast<double>(factor_at<T>(p, i));
  }
  sums = sum_over_row(sums, 0);
  const float inverse_size = 1.0F / static_cast<float>(p.statistics_size);
  const double root = wide_root(sums.squares, p, inverse_size);
  by_rms = divisor_by(wide_rms(root, p));
  const Divisor by_root = divisor_by(root);
  const bool varies = root > 0.0 && root + static_cast<double>(p.rms_epsilon) > static_cast<double>(p.rms_min);
  const double share = sums.dots * static_cast<double>(inverse_size);
  return {static_cast<double>(by_rms.power) * static_cast<double>(by_rms.factor),
          varies ? share * static_cast<double>(by_root.power) * static_cast<double>(by_root.factor) : 0.0};
}

// u and grad_x, without grad_sum, of one element. g = scale * grad_y.
template <class Real>
struct ElementGradient {
  Real normed;
  Real grad_x;

  __device__ __forceinline__ ElementGradient(Real x, Real g, const RowTerms<Real>& terms, bool in_statistic)
      : normed(x * terms.inverse),
        grad_x((g - (in_statistic && terms.along != Real{} ? normed * terms.along : Real{})) * terms.inverse) {}
};

// Writes grad_x of the element `at`, which is number `i` of its row. Returns u.
template <class T, class Real>
__device__ __forceinline__ Real write_element(const Gradient& gradient, int64_t at, int64_t i, Real grad,
                                              const RowTerms<Real>& terms) {
  const Problem& p = gradient.norm;
  const Real x = static_cast<Real>(to_float(static_cast<const T*>(p.x)[at]));
  const Real g = grad * static_cast<Real>(factor_at<T>(p, i));
  const ElementGradient<Real> element(x, g, terms, i < p.statistics_size);
  if (gradient.grad_x != nullptr) {
    const float other = gradient.grad_sum == nullptr ? 0.0F : to_float(static_cast<const T*>(gradient.grad_sum)[at]);
    const Real sum = element.grad_x + static_cast<Real>(other);
    static_cast<T*>(gradient.grad_x)[at] = from_float<T>(static_cast<float>(sum));
  }
  return element.normed;
}

}  // namespace rms_deploy::cuda
