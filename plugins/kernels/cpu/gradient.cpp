#include "kernels/cpu/gradient.h"

#include <algorithm>
#include <cstring>

#include "kernels/rounding.h"

namespace rms_deploy::cpu {

#if defined(__x86_64__)
namespace v2 {
void gradient(const Gradient& gradient, int64_t part, float* scratch);
}
namespace avx2 {
void gradient(const Gradient& gradient, int64_t part, float* scratch);
}
namespace avx512 {
void gradient(const Gradient& gradient, int64_t part, float* scratch);
}

GradientFunction gradient_function(const Level& level) {
  if (std::strcmp(level.name, "avx512") == 0) {
    return avx512::gradient;
  }
  return std::strcmp(level.name, "avx2") == 0 ? avx2::gradient : v2::gradient;
}
#else
namespace portable {
void gradient(const Gradient& gradient, int64_t part, float* scratch);
}

GradientFunction gradient_function(const Level&) { return portable::gradient; }
#endif

namespace {

// A part has at least this many elements, some 10 microseconds, and at least this many rows: a share is to be small
// beside them, as it is written, read and cleared. More parts serve more threads, but in all their shares must stay in
// a cache.
constexpr int64_t kPartElements = 32768;
constexpr int64_t kPartRows = 32;
constexpr int64_t kMaxParts = 32;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class S>
void write_factors(const Problem& p, const S* scale, float* factors) {
  if (p.scalar_scale) {
    std::fill_n(factors, p.n, to_float(scale[0]));
  } else {
    for (int64_t i = 0; i < p.n; ++i) {
      factors[i] = to_float(scale[i]);
    }
  }
}

template <class S>
void reduce(const Gradient& gradient, S* grad_scale) {
  const Problem& p = gradient.norm;
  const int64_t parts = part_count(p);
  double all = 0.0;
  constexpr int64_t kBlock = 64;
  for (int64_t begin = 0; begin < p.n; begin += kBlock) {
    const int64_t count = std::min(kBlock, p.n - begin);
    double totals[kBlock] = {};
    for (int64_t part = 0; part < parts; ++part) {
      const double* share = gradient.shares + part * p.n + begin;
      for (int64_t i = 0; i < count; ++i) {
        totals[i] += share[i];
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      if (p.scalar_scale) {
        all += totals[i];
      } else {
        grad_scale[begin + i] = from_float<S>(static_cast<float>(totals[i]));
      }
    }
  }
  if (p.scalar_scale) {
    grad_scale[0] = from_float<S>(static_cast<float>(all));
  }
}

}  // namespace

int64_t units_per_part(const Problem& problem) {
  const bool rows = problem.inner == 1;
  const int64_t unit = std::max(problem.n * (rows ? 1 : std::min(problem.inner, kColumns)), int64_t{1});
  return std::max({rows ? kPartRows : 1, divide_up(kPartElements, unit), divide_up(unit_count(problem), kMaxParts)});
}

void scale_factors(const Problem& p, float* factors) {
  switch (p.scale_type) {
    case contract::ElementType::kFloat32:
      write_factors(p, static_cast<const float*>(p.scale), factors);
      break;
    case contract::ElementType::kFloat16:
      write_factors(p, static_cast<const Float16*>(p.scale), factors);
      break;
    case contract::ElementType::kBFloat16:
      write_factors(p, static_cast<const BFloat16*>(p.scale), factors);
      break;
  }
  std::fill(factors + p.n, factors + padded(p.n), 0.0F);
}

void reduce_shares(const Gradient& gradient, void* grad_scale) {
  switch (gradient.norm.scale_type) {
    case contract::ElementType::kFloat32:
      return reduce(gradient, static_cast<float*>(grad_scale));
    case contract::ElementType::kFloat16:
      return reduce(gradient, static_cast<Float16*>(grad_scale));
    case contract::ElementType::kBFloat16:
      return reduce(gradient, static_cast<BFloat16*>(grad_scale));
  }
}

}  // namespace rms_deploy::cpu
