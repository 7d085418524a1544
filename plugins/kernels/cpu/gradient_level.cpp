// The backward pass, compiled once per instruction-set level as level.cpp is.
#include "kernels/cpu/gradient_columns.h"
#include "kernels/cpu/gradient_rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

void gradient(const Gradient& gradient, int64_t part, float* scratch);

namespace {

template <class Function>
void as_constant(bool value, const Function& function) {
  value ? function(std::true_type{}) : function(std::false_type{});
}

// Streamed stores need whole vectors.
template <class T>
bool streams(const Gradient& g) {
  return kHasStreams && g.norm.stream && reinterpret_cast<uintptr_t>(g.grad_x) % sizeof(Vector) == 0 &&
         static_cast<size_t>(g.norm.n) * sizeof(T) % sizeof(Vector) == 0;
}

template <class T>
void gradient_type(const Gradient& g, int64_t first, int64_t last, double* share, float* scratch) {
  if (g.norm.inner != 1) {
    return GradientColumns<T>(g).run(first, last, share);
  }
  if (g.grad_x == nullptr) {
    return GradientRows<T, false, false, true, false>(g, scratch).run(first, last, share);
  }
  as_constant(g.grad_sum != nullptr, [&](auto sum) {
    as_constant(share != nullptr, [&](auto wants_scale) {
      if constexpr (kHasStreams) {
        if (streams<T>(g)) {
          GradientRows<T, sum.value, true, wants_scale.value, true>(g, scratch).run(first, last, share);
          return finish_streams();
        }
      }
      GradientRows<T, sum.value, true, wants_scale.value, false>(g, scratch).run(first, last, share);
    });
  });
}

}  // namespace

void gradient(const Gradient& g, int64_t part, float* scratch) {
  const int64_t units = units_per_part(g.norm);
  const int64_t first = part * units;
  const int64_t last = first + units < unit_count(g.norm) ? first + units : unit_count(g.norm);
  double* share = g.shares == nullptr ? nullptr : g.shares + part * g.norm.n;
  switch (g.norm.type) {
    case contract::ElementType::kFloat32:
      return gradient_type<float>(g, first, last, share, scratch);
    case contract::ElementType::kFloat16:
      return gradient_type<Float16>(g, first, last, share, scratch);
    case contract::ElementType::kBFloat16:
      return gradient_type<BFloat16>(g, first, last, share, scratch);
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
