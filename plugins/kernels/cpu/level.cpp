// Compiled once per instruction-set level, with RMS_DEPLOY_LEVEL as its namespace. Turns the types and options of a
// Problem into template arguments.
#include "kernels/cpu/columns.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

void norm(const Problem& problem, int64_t first, int64_t last);

namespace {

// Calls `function` with true or false as a constant.
template <class Function>
void as_constant(bool value, const Function& function) {
  value ? function(std::true_type{}) : function(std::false_type{});
}

// Streamed stores are compiled only for the levels and types that are used for speed, which Held is not.
template <class T>
constexpr bool kMayStream = kHasStreams && (std::is_same_v<T, float> || sizeof(T) == sizeof(uint16_t));

// Streamed stores need whole vectors.
template <class T>
bool streams(const Problem& p) {
  return p.stream && reinterpret_cast<uintptr_t>(p.y) % sizeof(Vector) == 0 &&
         static_cast<size_t>(p.n) * sizeof(T) % sizeof(Vector) == 0;
}

template <class T, bool kRoundFirst>
void norm_order(const Problem& p, int64_t first, int64_t last) {
  as_constant(p.residual != nullptr, [&](auto add) {
    if (p.inner != 1) {
      return norm_columns<T, kRoundFirst, add.value>(p, first, last);
    }
    if constexpr (kMayStream<T>) {
      if (streams<T>(p)) {
        Rows<T, kRoundFirst, add.value, true>(p).norm(first, last);
        return finish_streams();
      }
    }
    Rows<T, kRoundFirst, add.value, false>(p).norm(first, last);
  });
}

template <class T>
void norm_type(const Problem& p, int64_t first, int64_t last) {
  if (p.held_in_float32) {
    norm_order<Held<T>, true>(p, first, last);
  } else {
    p.round_before_scale ? norm_order<T, true>(p, first, last) : norm_order<T, false>(p, first, last);
  }
}

}  // namespace

void norm(const Problem& p, int64_t first, int64_t last) {
  switch (p.type) {
    case contract::ElementType::kFloat32:
      return norm_order<float, false>(p, first, last);  // both orders round the quotient to float32
    case contract::ElementType::kFloat16:
      return norm_type<Float16>(p, first, last);
    case contract::ElementType::kBFloat16:
      return norm_type<BFloat16>(p, first, last);
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
