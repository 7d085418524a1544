// The CPU kernels against float64, for the sanitizers: every width around the vectors, every misalignment, every type
// and option; in memory that ends where the tensor ends (AddressSanitizer sees a byte beyond it), with NaN in the gap
// before it, in place, streamed, and cut into parts for threads. Exits with 1 and says which case failed.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/rounding.h"

namespace {

using rms_deploy::BFloat16;
using rms_deploy::Float16;
using rms_deploy::from_float;
using rms_deploy::contract::ElementType;
using rms_deploy::contract::Gate;
using rms_deploy::cpu::Problem;

int failures = 0;

size_t bytes_of(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

// Half a unit in the last place, relative to a number with mantissa 1.
double epsilon_of(ElementType type) {
  return type == ElementType::kFloat32 ? 0x1p-24 : type == ElementType::kFloat16 ? 0x1p-11 : 0x1p-8;
}

// A tensor that ends at the end of its allocation, `offset` elements into it.
class Tensor {
 public:
  Tensor(ElementType type, int64_t size, int64_t offset, float fill = std::numeric_limits<float>::quiet_NaN())
      : type_(type), offset_(offset), size_(size), bytes_(bytes_of(type) * static_cast<size_t>(offset + size)) {
    memory_ = std::make_unique<unsigned char[]>(bytes_);
    for (int64_t i = -offset; i < size; ++i) {
      set(i, fill);
    }
  }

  void set(int64_t i, float value) {
    unsigned char* at = memory_.get() + bytes_of(type_) * static_cast<size_t>(offset_ + i);
    const Float16 half = from_float<Float16>(value);
    const BFloat16 brain = from_float<BFloat16>(value);
    const void* from = type_ == ElementType::kFloat32   ? static_cast<const void*>(&value)
                       : type_ == ElementType::kFloat16 ? static_cast<const void*>(&half)
                                                        : &brain;
    std::memcpy(at, from, bytes_of(type_));
  }

  float get(int64_t i) const {
    const unsigned char* at = memory_.get() + bytes_of(type_) * static_cast<size_t>(offset_ + i);
    float value;
    Float16 half;
    BFloat16 brain;
    switch (type_) {
      case ElementType::kFloat32:
        std::memcpy(&value, at, sizeof value);
        return value;
      case ElementType::kFloat16:
        std::memcpy(&half, at, sizeof half);
        return rms_deploy::to_float(half);
      case ElementType::kBFloat16:
        std::memcpy(&brain, at, sizeof brain);
        return rms_deploy::to_float(brain);
    }
    return 0.0F;
  }

  void* data() const { return memory_.get() + bytes_of(type_) * static_cast<size_t>(offset_); }
  bool gap_is(float fill) const {
    for (int64_t i = -offset_; i < 0; ++i) {
      if (get(i) != fill) {
        return false;
      }
    }
    return true;
  }
  bool same_bits(const Tensor& other) const { return std::memcmp(data(), other.data(), data_bytes()) == 0; }
  size_t data_bytes() const { return bytes_of(type_) * static_cast<size_t>(size_); }

 private:
  ElementType type_;
  int64_t offset_;
  int64_t size_;
  size_t bytes_;
  std::unique_ptr<unsigned char[]> memory_;
};

float random_number() {
  static uint64_t state = 88172645463325252U;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<float>(static_cast<double>(state >> 11) * 0x1p-52 - 1.0);
}

struct Case {
  ElementType type;
  ElementType scale_type;
  int64_t outer;
  int64_t n;
  int64_t inner;
  int64_t statistics_size;
  int64_t offset;
  bool add;
  bool scalar_scale;
  bool round_before_scale;
  bool round_reciprocal;
  bool in_place;
  bool stream;
  bool ordered_scale;
  int threads;
  int32_t scale_rows = 1;
  int32_t scale_repeat = 1;
  Gate gate = Gate::kNone;
  bool shift = false;
  ElementType sum_type = type;
  bool float32_sum = false;

  int64_t scale_row_size() const { return scalar_scale ? 1 : n; }
};

void fail(const Case& c, const char* what, int64_t i) {
  ++failures;
  std::printf(
      "%s: type %d scale %d (%lld, %lld, %lld) statistics %lld offset %lld add %d scalar %d first %d reciprocal %d "
      "in place %d "
      "stream %d ordered %d threads %d scale rows %d repeat %d gate %d shift %d sum %d float32 sum %d element %lld\n",
      what, static_cast<int>(c.type), static_cast<int>(c.scale_type), static_cast<long long>(c.outer),
      static_cast<long long>(c.n), static_cast<long long>(c.inner), static_cast<long long>(c.statistics_size),
      static_cast<long long>(c.offset), c.add, c.scalar_scale, c.round_before_scale, c.round_reciprocal, c.in_place,
      c.stream, c.ordered_scale, c.threads, c.scale_rows, c.scale_repeat, static_cast<int>(c.gate), c.shift,
      static_cast<int>(c.sum_type), c.float32_sum, static_cast<long long>(i));
}

void run(const rms_deploy::cpu::Level& level, const Problem& problem, int threads) {
  const int64_t units = rms_deploy::cpu::unit_count(problem);
  std::vector<std::thread> pool;
  for (int part = 0; part < threads; ++part) {
    pool.emplace_back(level.norm, std::cref(problem), units * part / threads, units * (part + 1) / threads);
  }
  for (std::thread& thread : pool) {
    thread.join();
  }
}

double silu(double z) { return z / (1.0 + std::exp(-z)); }

// Y against float64, from the values that the kernel read; `z` is read where there is a gate.
void compare(const Case& c, const Tensor& source, const Tensor& z, const Tensor& scale, const Tensor& shift,
             const Tensor& y) {
  // Rounding the reciprocal, the quotient, the scale, the product, and that with a gate or the sum with a shift; what
  // float32 adds to the statistic; and 2 units in the last place of the exponential of a gate, its sum, quotient and
  // product. A rounding of a subnormal float16 costs half of 2^-24, which a scale of 2 may double.
  const bool is_gated = c.gate != Gate::kNone;
  const int roundings = (c.round_reciprocal ? 4 : c.round_before_scale ? 3 : 1) + (is_gated || c.shift ? 1 : 0);
  const double tolerance = epsilon_of(c.type) * roundings + (is_gated ? 10 : 3) * 0x1p-24;
  const auto normalised = [&](int64_t i) {
    return static_cast<double>(source.get(i)) *
           (c.gate == Gate::kSiluFirst ? silu(static_cast<double>(z.get(i))) : 1.0);
  };
  for (int64_t o = 0; o < c.outer; ++o) {
    for (int64_t column = 0; column < c.inner; ++column) {
      const auto index = [&](int64_t k) { return (o * c.n + k) * c.inner + column; };
      double sum = 0.0;
      for (int64_t k = 0; k < c.statistics_size; ++k) {
        sum += normalised(index(k)) * normalised(index(k));
      }
      const int64_t first_scale = o / c.scale_repeat % c.scale_rows * c.scale_row_size();
      const double rms = std::sqrt(sum / static_cast<double>(c.statistics_size) + 1e-6);
      for (int64_t k = 0; k < c.n; ++k) {
        const double factor = static_cast<double>(scale.get(first_scale + (c.scalar_scale ? 0 : k)));
        const double z_k = static_cast<double>(z.get(index(k)));
        const double gate = c.gate == Gate::kSilu      ? silu(z_k)
                            : c.gate == Gate::kSigmoid ? 1.0 / (1.0 + std::exp(-z_k))
                                                       : 1.0;
        const double product = normalised(index(k)) / rms * factor * gate;
        const double added = c.shift ? static_cast<double>(shift.get(first_scale + (c.scalar_scale ? 0 : k))) : 0.0;
        if (!(std::fabs(static_cast<double>(y.get(index(k))) - (product + added)) <=
              tolerance * (std::fabs(product) + std::fabs(added)) + roundings * 0x1p-24)) {
          return fail(c, "wrong", index(k));
        }
      }
    }
  }
}

void check(const rms_deploy::cpu::Level& level, const Case& c) {
  const int64_t size = c.outer * c.n * c.inner;
  const bool has_operand = c.add || c.gate != Gate::kNone;
  const int64_t factors = c.scale_rows * c.scale_row_size();
  Tensor x(c.type, size, c.offset);
  Tensor operand(c.add ? c.sum_type : c.type, size, c.offset);
  Tensor scale(c.scale_type, factors, c.offset);
  Tensor shift(c.scale_type, factors, c.offset);
  Tensor y(c.type, size, c.offset, 7.0F);
  Tensor sum(c.sum_type, size, c.offset, 7.0F);
  Tensor source(c.float32_sum ? ElementType::kFloat32 : c.type, size, c.offset);
  for (int64_t i = 0; i < size; ++i) {
    x.set(i, 3.0F * random_number());
    operand.set(i, 3.0F * random_number());
    const float total = c.add ? x.get(i) + operand.get(i) : x.get(i);
    sum.set(i, total);
    source.set(i, c.float32_sum ? total : sum.get(i));
  }
  for (int64_t i = 0; i < factors; ++i) {
    scale.set(i, 2.0F * random_number());
    shift.set(i, random_number());
  }
  Tensor written(c.sum_type, size, c.offset, 7.0F);
  // In place: y in the memory of an operand of its type and the sum in that of x, or the other way round.
  Tensor& reused = c.add && c.sum_type == c.type ? operand : x;
  Tensor& reused_sum = &reused == &x ? operand : x;
  Problem p;
  p.type = c.type;
  p.scale_type = c.scale_type;
  p.x = x.data();
  p.sum_type = c.sum_type;
  p.operand = has_operand ? operand.data() : nullptr;
  p.shift = c.shift ? shift.data() : nullptr;
  p.normalizes_float32_sum = c.float32_sum;
  p.gate = c.gate;
  p.scale = scale.data();
  p.y = (c.in_place ? reused : y).data();
  p.sum = !c.add ? nullptr : (c.in_place ? reused_sum : written).data();
  p.outer = c.outer;
  p.n = c.n;
  p.inner = c.inner;
  p.statistics_size = c.statistics_size;
  p.scalar_scale = c.scalar_scale;
  p.scale_rows = c.scale_rows;
  p.scale_repeat = c.scale_repeat;
  p.round_before_scale = c.round_before_scale;
  p.round_reciprocal = c.round_reciprocal;
  p.stream = c.stream;
  std::vector<float> ordered(static_cast<size_t>(rms_deploy::cpu::padded(c.n)));
  if (c.ordered_scale && !c.scalar_scale && c.scale_rows == 1) {
    level.order_scale(p, ordered.data());
    p.ordered_scale = ordered.data();
  }
  run(level, p, c.threads);
  if (!c.in_place && !y.gap_is(7.0F)) {
    fail(c, "wrote before the output", 0);
  }
  if (c.add && !(c.in_place ? reused_sum : written).same_bits(sum)) {
    fail(c, "wrong sum", 0);
  }
  compare(c, source, operand, scale, shift, c.in_place ? reused : y);
}

void check_shapes(const rms_deploy::cpu::Level& level, ElementType type, ElementType scale_type) {
  const bool half = type != ElementType::kFloat32;
  int64_t number = 0;
  const auto both = [&](int64_t outer, int64_t n, int64_t inner) {
    ++number;  // the options are walked through from shape to shape, in cycles of coprime lengths
    const bool add = number % 2 == 0;
    const int64_t statistics = !add && number % 3 == 0 ? 1 + n / 3 : n;
    const bool has_gate = !add && inner == 1 && number % 31 < 15;
    const Gate gates[] = {Gate::kSilu, Gate::kSiluFirst, Gate::kSigmoid};
    const Gate gate = has_gate ? gates[number / 2 % 3] : Gate::kNone;
    Case c{type,
           scale_type,
           outer,
           n,
           inner,
           statistics,
           number % 17,
           add,
           number % 5 == 0,
           half && number % 7 < 3,
           half && number % 7 < 2,
           number % 11 < 4,
           number % 13 < 6,
           number % 19 < 8,
           static_cast<int>(1 + number % 3),
           number % 23 < 9 ? static_cast<int32_t>(1 + number % 3) : 1,
           static_cast<int32_t>(1 + number % 2),
           gate};
    c.shift = !has_gate && inner == 1 && number % 29 < 12;
    c.sum_type = add && half && inner == 1 && number % 8 < 4 ? ElementType::kFloat32 : type;
    c.float32_sum = add && half && inner == 1 && number % 12 < 5;
    check(level, c);
  };
  for (int64_t n = 1; n <= 3 * 64 + 2; ++n) {
    both(1 + n % 5, n, 1);
    both(16 + n % 37, n, 1);
    both(1, 1 + n % 23, n);
  }
  for (const int64_t n : {255, 256, 257, 896, 2047, 2048, 2049, 4095, 4096, 4097, 8193}) {
    for (int option = 0; option < 12; ++option) {
      both(5, n, 1);
    }
  }
  for (const int64_t inner : {255, 256, 257, 300, 515}) {
    for (int option = 0; option < 6; ++option) {
      both(2, 37, inner);
    }
  }
  // Aligned rows of whole vectors: the ones that are streamed.
  for (int64_t rows = 1; rows < 40; ++rows) {
    check(level, {type, scale_type, rows, 64 * (1 + rows % 5), 1, 64, 0, false, false, false, false, false, true,
                  rows % 2 == 0, 2});
    check(level, {type, scale_type, rows, 1024, 1, 1024, 0, false, false, half, false, false, true, false, 2, 3, 2});
    check(level, {type, scale_type, rows, 1024, 1, 1024, 0, true, rows % 2 == 0, half, half && rows % 5 == 0,
                  rows % 3 == 0, true, rows % 2 != 0, 3});
  }
}

// Bit for bit the same for any cut.
void check_threads(const rms_deploy::cpu::Level& level, ElementType type) {
  const int64_t n = 173;
  const int64_t rows = 61;
  Tensor x(type, rows * n, 0);
  Tensor scale(ElementType::kFloat32, n, 0, 1.25F);
  for (int64_t i = 0; i < rows * n; ++i) {
    x.set(i, random_number());
  }
  Tensor first(type, rows * n, 0);
  for (int threads = 1; threads <= 4; ++threads) {
    Tensor y(type, rows * n, 0);
    Problem p;
    p.type = type;
    p.x = x.data();
    p.scale = scale.data();
    p.y = (threads == 1 ? first : y).data();
    p.outer = rows;
    p.n = n;
    p.inner = 1;
    p.statistics_size = n;
    run(level, p, threads);
    if (threads > 1 && !y.same_bits(first)) {
      fail({type, ElementType::kFloat32, rows, n, 1, n, 0, false, false, false, false, false, false, false, threads},
           "other bits", 0);
    }
  }
}

}  // namespace

int main() {
  const char* problem = nullptr;
  const rms_deploy::cpu::Level* level = rms_deploy::cpu::select_level(std::getenv("RMS_DEPLOY_ISA"), &problem);
  if (level == nullptr) {
    std::printf("%s\n", problem);
    return 77;
  }
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
    check_shapes(*level, type, ElementType::kFloat32);
    if (type != ElementType::kFloat32) {
      check_shapes(*level, type, type);
    }
    check_threads(*level, type);
  }
  std::printf("%s: %d failures\n", level->name, failures);
  return failures == 0 ? 0 : 1;
}
