// inner = 1: the elements of a row are neighbours. The x threads of a block share a row; the y of a block are its rows
// (more than one only where a row takes a warp or less).
//
// `norm_rows`, for aligned rows of whole packs that one block can hold, keeps the row in registers between the
// statistic and the output, so that memory is read once. `norm_shared_rows` keeps a longer one in shared memory.
// `norm_any_rows` reads a row twice: any alignment and any length. The last two may give a row to several blocks: each
// sums the whole row and writes its part, so that none waits for another; what they read again comes from L2.
#pragma once

#include "kernels/cuda/statistic.cuh"

namespace rms_deploy::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffU;

// Partial sums, one per warp.
__device__ __forceinline__ float* warp_sums(float) {
  __shared__ float sums[kWarp];
  return sums;
}

__device__ __forceinline__ double* warp_sums(double) {
  __shared__ double sums[kWarp];
  return sums;
}

template <class Sum>
__device__ __forceinline__ Sum sum_over_lanes(Sum value, int lanes) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    if (offset < lanes) {
      value += __shfl_xor_sync(kAllLanes, value, offset);
    }
  }
  return value;
}

// The sum over the threads of a row, the same bits in each. A kernel calls it once per type, as no barrier guards a
// second use of the shared memory.
template <class Sum>
__device__ __forceinline__ Sum sum_over_row(Sum value) {
  const int threads = static_cast<int>(blockDim.x);
  value = threads < kWarp ? sum_over_lanes(value, threads) : sum_over_lanes(value, kWarp);
  if (threads > kWarp) {
    Sum* sums = warp_sums(Sum{});
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % kWarp == 0) {
      sums[thread / kWarp] = value;
    }
    __syncthreads();
    const int lane = thread % kWarp;
    value = sum_over_lanes(lane < threads / kWarp ? sums[lane] : Sum{}, kWarp);
  }
  return value;
}

// The divisor of the thread's row, from what the thread adds to the sum of squares.
template <class T, bool kGeneral = false>
__device__ __forceinline__ Divisor row_divisor(const Arguments& arguments, int64_t row, float sum_of_squares) {
  const Problem& p = arguments.problem;
  bool holds;
  Divisor divisor = divisor_of(sum_over_row(sum_of_squares), p, arguments.inverse_size, holds);
  if (__any_sync(kAllLanes, !holds)) {  // the same for all warps of a row
    double sum = 0.0;
#pragma unroll 1
    for (int64_t i = threadIdx.x; row < p.outer && i < p.statistics_size; i += blockDim.x) {
      sum += wide_square<T, kGeneral>(p, row * p.n + i);
    }
    const Divisor wide = wide_divisor(sum_over_row(sum), p, arguments.inverse_size);
    divisor = holds ? divisor : wide;
  }
  return reciprocal_rounded<T>(divisor, p);
}

// kAligned: every row starts at a multiple of 16 bytes and is whole packs. Otherwise packs still lie at multiples of
// 16 bytes (if all tensors are misaligned alike), and what a pack has outside the row is not touched.
template <class T, int kVectors, bool kAligned, class Index>
class Row {
 public:
  __device__ __forceinline__ Row(const Arguments& arguments, int64_t row)
      : p_(arguments.problem),
        x_(static_cast<const T*>(p_.x) + row * p_.n),
        operand_(p_.operand == nullptr ? nullptr : static_cast<const T*>(p_.operand) + row * p_.n),
        y_(static_cast<T*>(p_.y) + row * p_.n),
        sum_(p_.operand != nullptr && p_.sum != nullptr ? static_cast<T*>(p_.sum) + row * p_.n : nullptr),
        n_(row < p_.outer ? static_cast<Index>(p_.n) : 0),  // a row that does not exist has no elements
        size_(row < p_.outer ? static_cast<Index>(p_.statistics_size) : 0),
        whole_vectors_(kAligned || arguments.whole_vectors),
        phase_(kAligned || !whole_vectors_ ? 0 : static_cast<int>(reinterpret_cast<uintptr_t>(x_) % 16 / sizeof(T))),
        scale_(scale_of<T>(arguments.problem, row)) {}

  // The row in chunks of blockDim.x * kVectors packs.
  __device__ __forceinline__ Index chunks() const {
    const Index chunk = static_cast<Index>(blockDim.x) * kVectors * kWidth<T>;
    return (n_ + phase_ + chunk - 1) / chunk;
  }

  // Of the thread's i-th pack of a chunk, within the row.
  __device__ __forceinline__ Index number_of_pack(Index chunk, int i) const {
    return (chunk * kVectors + i) * static_cast<Index>(blockDim.x) + static_cast<Index>(threadIdx.x);
  }

  __device__ __forceinline__ bool has_pack(Index chunk, int i) const { return first(chunk, i) < n_; }

  // x, or x + residual rounded.
  __device__ __forceinline__ void load(Index chunk, Pack (&held)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      held[i] = load(x_, first(chunk, i));
    }
    if (operand_ != nullptr) {
      Pack residual[kVectors];
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        residual[i] = load(operand_, first(chunk, i));
      }
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        held[i] = added<T>(held[i], residual[i]);
      }
    }
  }

  // What this thread adds to the sum of squares, of packs or of their Floats.
  template <class Held>
  __device__ __forceinline__ float squares(Index chunk, const Held (&held)[kVectors]) const {
    float total = 0.0F;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      Floats<T> values(held[i]);
      const Index begin = first(chunk, i);
      if (begin + kWidth<T> > size_) {
#pragma unroll
        for (int k = 0; k < kWidth<T>; ++k) {
          values.each[k] = begin + k < size_ ? values.each[k] : 0.0F;
        }
      }
      float sum = 0.0F;  // of each pack: kVectors chains of additions that do not wait for each other
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        sum += values.each[k] * values.each[k];
      }
      total += sum;
    }
    return total;
  }

  // The first 16 bytes of a pack's scale, of either type.
  __device__ __forceinline__ Pack start_of_scale(int i) const {
    static_assert(kAligned, "a pack's scale is packs");
    const int64_t begin = static_cast<int64_t>(first(0, i)) * (is_scale_float32() ? 4 : sizeof(T));
    return first(0, i) < n_ && !p_.scalar_scale ? load_constant_pack(static_cast<const char*>(scale_) + begin) : Pack{};
  }

  __device__ __forceinline__ Floats<T> scale(Index chunk, int i, const Pack* start = nullptr) const {
    return weights(scale_, first(chunk, i), start);
  }

  // Whether the scale is a vector of S, and is applied in this order.
  template <class S>
  __device__ __forceinline__ bool has_scale(bool round_before_scale) const {
    return p_.scale_type == kElementType<S> && !p_.scalar_scale && p_.round_before_scale == round_before_scale;
  }

  // The same row. The compiler leaves out the branches of what is constant here.
  template <class S>
  __device__ __forceinline__ Row with_scale(bool round_before_scale) const {
    Row row = *this;
    row.p_.scale_type = kElementType<S>;
    row.p_.scalar_scale = false;
    row.p_.round_before_scale = round_before_scale;
    return row;
  }

  // Writes y, and the sum of an add-norm.
  __device__ __forceinline__ void write(Index chunk, int i, const Pack& held, const Divisor& divisor,
                                        const Floats<T>& scale) const {
    Floats<T> values(held);
    norm(values, divisor, scale);
    const Index begin = first(chunk, i);
    if (sum_ != nullptr) {
      store(sum_, begin, held);
    }
    store(y_, begin, values.rounded());
  }

 protected:
  // Those of a pack, of a row of scale or of shift, as they are applied: rounded to T first, or not.
  __device__ __forceinline__ Floats<T> weights(const void* row, Index begin, const Pack* start = nullptr) const {
    Floats<T> weights = {};
    if (is_scale_float32()) {
      load_weights(static_cast<const float*>(row), begin, start, weights);
      round_to<T>(weights, p_.round_before_scale);
    } else {
      load_weights(static_cast<const T*>(row), begin, start, weights);
    }
    return weights;
  }

  // Makes scale * x / rms of x. The product with scale is not rounded yet.
  __device__ __forceinline__ void norm(Floats<T>& values, const Divisor& divisor, const Floats<T>& scale) const {
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] = divisor.divide(values.each[k]);
    }
    round_to<T>(values, p_.round_before_scale);
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] *= scale.each[k];
    }
  }

  // The first element of the thread's i-th pack; it may be negative where the row starts within the pack.
  __device__ __forceinline__ Index first(Index chunk, int i) const {
    return number_of_pack(chunk, i) * kWidth<T> - phase_;
  }

  __device__ __forceinline__ bool is_whole(Index begin) const {
    return kAligned ? begin < n_ : whole_vectors_ && begin >= 0 && begin + kWidth<T> <= n_;
  }

  __device__ __forceinline__ bool has(Index i) const { return i >= 0 && i < n_; }

  __device__ __forceinline__ Pack load(const T* row, Index begin) const {
    Pack pack = {};
    if (is_whole(begin)) {
      pack = load_pack(row + begin);
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        if (has(begin + k)) {
          set(pack, k, row[begin + k]);
        }
      }
    }
    return pack;
  }

  __device__ __forceinline__ void store(T* row, Index begin, const Pack& pack) const {
    if (is_whole(begin)) {
      store_pack(row + begin, pack);
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        if (has(begin + k)) {
          row[begin + k] = element<T>(pack, k);
        }
      }
    }
  }

  // `start`: null, or the first 16 bytes, loaded before.
  template <class S>
  __device__ __forceinline__ void load_weights(const S* from, Index begin, const Pack* start,
                                               Floats<T>& weights) const {
    if (p_.scalar_scale) {
      const float only = to_float(*from);
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        weights.each[k] = only;
      }
    } else if (kAligned ? begin < n_ : lies_inside(from + begin, begin)) {
      constexpr int kWords = kWidth<T> * sizeof(S) / 4;
      uint32_t words[kWords];
      if constexpr (kAligned) {
#pragma unroll
        for (int i = 0; i < kWords; i += 4) {
          const Pack pack = i == 0 && start != nullptr ? *start : load_constant_pack(from + begin + i * 4 / sizeof(S));
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            words[i + j] = pack.words[j];
          }
        }
      } else {
        load_constant_words(from + begin, words);
      }
#pragma unroll
      for (int i = 0; i < kWords; i += 4) {
        const Floats<S> part(Pack{{words[i], words[i + 1], words[i + 2], words[i + 3]}});
#pragma unroll
        for (int j = 0; j < kWidth<S>; ++j) {
          weights.each[i * 4 / static_cast<int>(sizeof(S)) + j] = part.each[j];
        }
      }
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        weights.each[k] = has(begin + k) ? to_float(from[begin + k]) : 0.0F;
      }
    }
  }

  // Whether the packs that a pack's part of the scale lies in are packs of the scale.
  template <class S>
  __device__ __forceinline__ bool lies_inside(const S* part, Index begin) const {
    const int before = static_cast<int>(misalignment_of(part) / sizeof(S));
    return begin >= before && begin + kWidth<T> + (before == 0 ? 0 : kWidth<S> - before) <= n_;
  }

  __device__ __forceinline__ bool is_scale_float32() const {
    return sizeof(T) == 4 || p_.scale_type == contract::ElementType::kFloat32;
  }

  Problem p_;
  const T* x_;
  const T* operand_;
  T* y_;
  T* sum_;
  Index n_;
  Index size_;
  bool whole_vectors_;
  int phase_;
  const void* scale_;
};

// Packs whose scale is on its way while the row is summed: as many as the registers hold.
template <int kVectors>
inline constexpr int kEarlyScales = kVectors < 4 ? kVectors : 1;

template <class T, int kVectors>
__device__ __forceinline__ void write_row(const Row<T, kVectors, true, int>& row, const Pack (&held)[kVectors],
                                          const Divisor& divisor, const Pack (&starts)[kEarlyScales<kVectors>]) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (i >= kEarlyScales<kVectors>) {
      keep_order();  // or the compiler loads all scales at once, into registers that it does not have
    }
    row.write(0, i, held[i], divisor, row.scale(0, i, i < kEarlyScales<kVectors> ? &starts[i] : nullptr));
  }
}

template <class T, int kVectors>
__device__ __forceinline__ void norm_rows(const Arguments& arguments) {
  const int64_t number = arguments.first + static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const Row<T, kVectors, true, int> row(arguments, number);
  Pack held[kVectors];
  row.load(0, held);
  Pack starts[kEarlyScales<kVectors>];
#pragma unroll
  for (int i = 0; i < kEarlyScales<kVectors>; ++i) {
    starts[i] = row.start_of_scale(i);
  }
  const Divisor divisor = row_divisor<T>(arguments, number, row.squares(0, held));
  const Divisor usual = {1.0F, divisor.factor};
  if (divisor.power != 1.0F) {
    write_row(row, held, divisor, starts);
  } else if (row.template has_scale<T>(true)) {
    write_row(row.template with_scale<T>(true), held, usual, starts);
  } else if (row.template has_scale<T>(false)) {
    write_row(row.template with_scale<T>(false), held, usual, starts);
  } else if (row.template has_scale<float>(false)) {
    write_row(row.template with_scale<float>(false), held, usual, starts);
  } else {
    write_row(row, held, divisor, starts);
  }
}

// The shared memory that a launch asks for.
__device__ __forceinline__ Pack* shared_packs() {
#if defined(__CUDACC__)
  extern __shared__ Pack packs[];
#else  // the tests, on a CPU
  Pack* const packs = static_cast<Pack*>(cuda_on_cpu::shared_bytes());
#endif
  return packs;
}

// kSplit: the row's chunks are shared out to the blocks of its y. Each block sums all of them, with two under way at a
// time, and keeps its own. A thread reads only what it has written, so no barrier is between the two.
template <class T, bool kSplit>
__device__ __forceinline__ void norm_chunks(const Arguments& arguments) {
  const int64_t number = arguments.first + static_cast<int64_t>(blockIdx.x);
  const Row<T, kSharedRowVectors, true, int> row(arguments, number);
  const int chunks = row.chunks();
  const int blocks = kSplit ? static_cast<int>(gridDim.y) : 1;
  const int first = kSplit ? static_cast<int>(blockIdx.y) : 0;
  Pack* const packs = shared_packs() + threadIdx.x;
  float sum = 0.0F;
#pragma unroll(kSplit ? 2 : 1)
  for (int chunk = 0; chunk < chunks; ++chunk) {
    Pack held[kSharedRowVectors];
    row.load(chunk, held);
    sum += row.squares(chunk, held);
    if (chunk % blocks == first) {
#pragma unroll
      for (int i = 0; i < kSharedRowVectors; ++i) {
        if (row.has_pack(chunk, i)) {
          packs[(chunk / blocks * kSharedRowVectors + i) * kSharedRowThreads] = held[i];
        }
      }
    }
  }
  const Divisor divisor = row_divisor<T>(arguments, number, sum);
  for (int chunk = first; chunk < chunks; chunk += blocks) {
#pragma unroll
    for (int i = 0; i < kSharedRowVectors; ++i) {
      if (row.has_pack(chunk, i)) {
        const Pack held = packs[(chunk / blocks * kSharedRowVectors + i) * kSharedRowThreads];
        row.write(chunk, i, held, divisor, row.scale(chunk, i));
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void norm_shared_rows(const Arguments& arguments) {
  if (gridDim.y == 1) {
    norm_chunks<T, false>(arguments);
  } else {
    norm_chunks<T, true>(arguments);
  }
}

template <class T>
__device__ __forceinline__ void norm_any_rows(const Arguments& arguments) {
  const int64_t number = arguments.first + static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const Row<T, kAnyRowVectors, false, int64_t> row(arguments, number);
  const int64_t chunks = row.chunks();
  Pack held[kAnyRowVectors];
  float sum = 0.0F;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    row.load(chunk, held);
    sum += row.squares(chunk, held);
  }
  const Divisor divisor = row_divisor<T>(arguments, number, sum);
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    if (chunk % gridDim.y == blockIdx.y) {
      if (chunk < chunks - 1) {  // the last one is still held
        row.load(chunk, held);
      }
#pragma unroll
      for (int i = 0; i < kAnyRowVectors; ++i) {
        row.write(chunk, i, held[i], divisor, row.scale(chunk, i));
      }
    }
  }
}

}  // namespace rms_deploy::cuda
