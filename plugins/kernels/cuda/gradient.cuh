// The backward pass with inner = 1: see gradient.h.
//
// `gradient_rows`, for aligned rows of whole packs that one block can hold, keeps a row of x and of grad_y in registers
// between the sums and the output, so that memory is read once. A block walks over several rows, and a thread has the
// same columns in each: it adds up grad_scale of these as it goes.
//
// Other rows, of any alignment and length, take three kernels' time: `gradient_any_rows` reads a row twice, element by
// element; `gradient_any_scale` reads both tensors once more for grad_scale, a tile of columns per block.
//
// `gradient_reduce` adds the shares of grad_scale.
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

// The scale of a pack whose first element is `begin`.
template <class T>
__device__ __forceinline__ Floats<T> scale_of_pack(const Problem& p, int begin) {
  Floats<T> scale;
  if (p.scalar_scale) {
    const float only = scale_at<T>(p, p.scale, 0);
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      scale.each[k] = only;
    }
  } else if (sizeof(T) == 4 || p.scale_type == contract::ElementType::kFloat32) {
#pragma unroll
    for (int k = 0; k < kWidth<T>; k += 4) {
      const Floats<float> part(load_constant_pack(static_cast<const float*>(p.scale) + begin + k));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        scale.each[k + j] = part.each[j];
      }
    }
  } else {
    scale = Floats<T>(load_constant_pack(static_cast<const T*>(p.scale) + begin));
  }
  return scale;
}

// The same pack, which the compiler takes for another one.
__device__ __forceinline__ void anew([[maybe_unused]] Pack& pack) {
#if defined(__CUDACC__)
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    asm volatile("" : "+r"(pack.words[i]));
  }
#endif
}

// One row of gradient_rows, as one thread has it: packs of x and grad_y, and the shares of grad_scale of its columns.
template <class T>
class GradientRow {
 public:
  static constexpr int kVectors = kGradientVectors;

  __device__ __forceinline__ explicit GradientRow(const Gradient& gradient) : g_(gradient), p_(gradient.norm) {}

  __device__ __forceinline__ void load(int64_t row) {
    offset_ = row * p_.n;
    n_ = row < p_.outer ? static_cast<int>(p_.n) : 0;  // a row that does not exist has no elements
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      x_[i] = has_pack(i) ? load_pack(static_cast<const T*>(p_.x) + at(i)) : Pack{};
      grad_[i] = has_pack(i) ? load_pack(static_cast<const T*>(g_.grad_y) + at(i)) : Pack{};
    }
  }

  // What this thread adds to the sums.
  __device__ __forceinline__ RowSums<float> sums() {
    RowSums<float> sums = {0.0F, 0.0F};
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (has_pack(i)) {
        const Floats<T> scale = scale_of_pack<T>(p_, first(i));
        keep_order();
        anew(x_[i]);  // or the compiler unpacks it before the scale is there
        anew(grad_[i]);
        const Floats<T> x(x_[i]);
        const Floats<T> grad(grad_[i]);
        RowSums<float> pack = {0.0F, 0.0F};  // chains of additions that do not wait for each other
#pragma unroll
        for (int k = 0; k < kWidth<T>; ++k) {
          pack.squares += in_statistic(i, k) ? x.each[k] * x.each[k] : 0.0F;
          pack.dots += grad.each[k] * scale.each[k] * x.each[k];
        }
        sums.squares += pack.squares;
        sums.dots += pack.dots;
      }
    }
    return sums;
  }

  // Writes grad_x, and adds to the shares.
  __device__ __forceinline__ void write(const RowTerms<float>& terms) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (has_pack(i)) {
        write_pack(i, terms);
      }
    }
  }

  // The same in float64. One element after the other is read again: nothing of the row is held in the meantime.
  __device__ __forceinline__ void write(const RowTerms<double>& terms) {
#pragma unroll 1
    for (int number = 0; number < kVectors * kWidth<T>; ++number) {
      const int column = first(number / kWidth<T>) + number % kWidth<T>;
      if (column < n_) {
        const double grad = static_cast<double>(to_float(static_cast<const T*>(g_.grad_y)[offset_ + column]));
        const double normed = write_element<T>(g_, offset_ + column, column, grad, terms);
        const float share = static_cast<float>(grad * normed);
#pragma unroll
        for (int i = 0; i < kVectors * kWidth<T>; ++i) {  // a register has no number that is known at run time
          shares_[i / kWidth<T>].each[i % kWidth<T>] += i == number ? share : 0.0F;
        }
      }
    }
  }

  __device__ __forceinline__ const Floats<T>& share(int i) const { return shares_[i]; }
  // The first column of the thread's i-th pack, and whether there is one.
  __device__ __forceinline__ int first(int i) const {
    return (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kWidth<T>;
  }
  __device__ __forceinline__ bool has_columns(int i) const { return first(i) < static_cast<int>(p_.n); }

 private:
  __device__ __forceinline__ bool has_pack(int i) const { return first(i) < n_; }
  __device__ __forceinline__ int64_t at(int i) const { return offset_ + first(i); }
  __device__ __forceinline__ bool in_statistic(int i, int k) const {
    return first(i) + k < static_cast<int>(p_.statistics_size);
  }

  __device__ __forceinline__ void write_pack(int i, const RowTerms<float>& terms) {
    const Floats<T> scale = scale_of_pack<T>(p_, first(i));
    keep_order();
    anew(x_[i]);  // or the compiler keeps what the sums have unpacked, in twice the registers
    anew(grad_[i]);
    const Floats<T> x(x_[i]);
    const Floats<T> grad(grad_[i]);
    Floats<T> result;
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      const ElementGradient<float> element(x.each[k], grad.each[k] * scale.each[k], terms, in_statistic(i, k));
      shares_[i].each[k] += grad.each[k] * element.normed;
      result.each[k] = element.grad_x;
    }
    if (g_.grad_sum != nullptr) {
      const Floats<T> other(load_pack(static_cast<const T*>(g_.grad_sum) + at(i)));
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        result.each[k] += other.each[k];
      }
    }
    if (g_.grad_x != nullptr) {
      store_pack(static_cast<T*>(g_.grad_x) + at(i), result.rounded());
    }
  }

  const Gradient& g_;
  const Problem& p_;
  int64_t offset_ = 0;
  int n_ = 0;
  Pack x_[kVectors];
  Pack grad_[kVectors];
  Floats<T> shares_[kVectors] = {};
};

// Writes the block's share: of one row at a time, a thread's own columns; of several, their sums in the rows' order.
template <class T>
__device__ __forceinline__ void write_share(const GradientRow<T>& row, int64_t n, float* share) {
  if (blockDim.y == 1) {
#pragma unroll
    for (int i = 0; i < GradientRow<T>::kVectors; ++i) {
      if (row.has_columns(i)) {
#pragma unroll
        for (int k = 0; k < kWidth<T>; k += 4) {
          const float* each = row.share(i).each + k;
          store_pack(share + row.first(i) + k,
                     Pack{{bits_of(each[0]), bits_of(each[1]), bits_of(each[2]), bits_of(each[3])}});
        }
      }
    }
    return;
  }
  float* const shares = reinterpret_cast<float*>(shared_packs());  // blockDim.y x n
  const int columns = static_cast<int>(n);
#pragma unroll
  for (int i = 0; i < GradientRow<T>::kVectors; ++i) {
    if (row.has_columns(i)) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        shares[static_cast<int>(threadIdx.y) * columns + row.first(i) + k] = row.share(i).each[k];
      }
    }
  }
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int column = thread; column < columns; column += static_cast<int>(blockDim.x * blockDim.y)) {
    float sum = 0.0F;
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y) {
      sum += shares[y * columns + column];
    }
    share[column] = sum;
  }
}

template <class T>
__device__ __forceinline__ void gradient_rows(const GradientArguments& arguments) {
  const Problem& p = arguments.gradient.norm;
  GradientRow<T> row(arguments.gradient);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  int turn = 0;
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < p.outer; first += step) {
    const int64_t number = first + threadIdx.y;
    row.load(number);
    bool holds;
    const RowTerms<float> terms = terms_of(sum_over_row(row.sums(), turn), p, holds);
    turn ^= 1;
    if (holds) {
      row.write(terms);
    }
    if (__any_sync(kAllLanes, !holds)) {  // the same for all warps of a row
      Divisor divisor;
      const RowTerms<double> wide = wide_terms<T>(arguments.gradient, number, divisor);
      if (!holds) {
        row.write(wide);
      }
    }
  }
  if (arguments.shares != nullptr) {
    write_share(row, p.n, arguments.shares + static_cast<int64_t>(blockIdx.x) * p.n);
  }
}

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

// The sum over the kRows warps of a block, each of which has the same 32 columns; for the first warp alone.
template <int kRows>
__device__ __forceinline__ float sum_over_warps(float share) {
  float* const shares = column_shares();
  shares[threadIdx.y * kWarp + threadIdx.x] = share;
  __syncthreads();
  float sum = 0.0F;
  if (threadIdx.y == 0) {
#pragma unroll
    for (int y = 0; y < kRows; ++y) {
      sum += shares[y * kWarp + static_cast<int>(threadIdx.x)];
    }
  }
  return sum;
}

// A warp has 32 neighbouring columns of one row after the other; blockIdx.y is the part of the rows.
template <class T>
__device__ __forceinline__ void gradient_any_scale(const GradientArguments& arguments) {
  const Gradient& gradient = arguments.gradient;
  const Problem& p = gradient.norm;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float share = 0.0F;
  const int64_t step = static_cast<int64_t>(gridDim.y) * kScaleRows;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * kScaleRows + threadIdx.y; row < p.outer && column < p.n;
       row += step) {
    const Divisor divisor = arguments.divisors[row];
    const float x = to_float(static_cast<const T*>(p.x)[row * p.n + column]);
    share += to_float(static_cast<const T*>(gradient.grad_y)[row * p.n + column]) * divisor.divide(x);
  }
  const float sum = sum_over_warps<kScaleRows>(share);
  if (threadIdx.y == 0 && column < p.n) {
    arguments.shares[static_cast<int64_t>(blockIdx.y) * p.n + column] = sum;
  }
}

// The sums over the parts. A warp adds the shares of 32 columns in every 32nd part.
template <class S>
__device__ __forceinline__ void gradient_reduce(const GradientArguments& arguments) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float share = 0.0F;
#pragma unroll 4
  for (int64_t part = threadIdx.y; part < arguments.parts && column < arguments.columns; part += kReduceRows) {
    share += arguments.shares[part * arguments.columns + column];
  }
  const float total = sum_over_warps<kReduceRows>(share);
  if (threadIdx.y == 0 && column < arguments.columns) {
    static_cast<S*>(arguments.total)[column] = from_float<S>(total);
  }
}

}  // namespace rms_deploy::cuda
