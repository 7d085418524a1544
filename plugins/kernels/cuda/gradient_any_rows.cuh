// `gradient_any_rows`, for rows of any alignment and length, reads a row twice, element by element. What it finds of
// each row is kept for gradient_any_scale.
#pragma once

#include "kernels/cuda/gradient_terms.cuh"

namespace rms_deploy::cuda {

// The elements of a row that one thread has, eight at a time: loads and chains of additions that do not wait for each
// other.
template <class T>
__device__ __forceinline__ RowSums<float> sums_of_any_row(const Gradient& gradient, int64_t row) {
  const Problem& p = gradient.norm;
  const int64_t n = row < p.outer ? p.n : 0;
  const T* const x = static_cast<const T*>(p.x) + row * p.n;
  const T* const grad = static_cast<const T*>(gradient.grad_y) + row * p.n;
  constexpr int kChains = 8;
  RowSums<float> sums[kChains] = {};
  for (int64_t begin = threadIdx.x; begin < n; begin += kChains * blockDim.x) {
#pragma unroll
    for (int chain = 0; chain < kChains; ++chain) {
      const int64_t i = begin + chain * static_cast<int64_t>(blockDim.x);
      if (i < n) {
        const float v = to_float(x[i]);
        sums[chain].squares += i < p.statistics_size ? v * v : 0.0F;
        sums[chain].dots += to_float(grad[i]) * factor_at<T>(p, i) * v;
      }
    }
  }
#pragma unroll
  for (int half = kChains / 2; half > 0; half /= 2) {
#pragma unroll
    for (int chain = 0; chain < half; ++chain) {
      sums[chain].squares += sums[chain + half].squares;
      sums[chain].dots += sums[chain + half].dots;
    }
  }
  return sums[0];
}

template <class T, class Real>
__device__ __forceinline__ void write_any_row(const Gradient& gradient, int64_t row, const RowTerms<Real>& terms) {
  const Problem& p = gradient.norm;
  if (row >= p.outer || gradient.grad_x == nullptr) {
    return;
  }
  for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
    const int64_t at = row * p.n + i;
    const Real grad = static_cast<Real>(to_float(static_cast<const T*>(gradient.grad_y)[at]));
    static_cast<void>(write_element<T>(gradient, at, i, grad, terms));
  }
}

template <class T>
__device__ __forceinline__ void gradient_any_rows(const GradientArguments& arguments) {
  const Gradient& gradient = arguments.gradient;
  const Problem& p = gradient.norm;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  int turn = 0;
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < p.outer; first += step) {
    const int64_t row = first + threadIdx.y;
    bool holds;
    const RowTerms<float> terms = terms_of(sum_over_row(sums_of_any_row<T>(gradient, row), turn), p, holds);
    turn ^= 1;
    Divisor divisor = {1.0F, terms.inverse};
    if (__any_sync(kAllLanes, !holds)) {
      Divisor by_rms;
      const RowTerms<double> wide = wide_terms<T>(gradient, row, by_rms);
      if (!holds) {
        divisor = by_rms;
        write_any_row<T>(gradient, row, wide);
      }
    }
    if (holds) {
      write_any_row<T>(gradient, row, terms);
    }
    if (arguments.divisors != nullptr && threadIdx.x == 0 && row < p.outer) {
      arguments.divisors[row] = divisor;
    }
  }
}

}  // namespace rms_deploy::cuda
