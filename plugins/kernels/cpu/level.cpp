// Compiled once per instruction-set level, with RMS_DEPLOY_LEVEL as its namespace. Turns the types and options of a
// Problem into template arguments.
#include "kernels/cpu/columns.h"
#include "kernels/cpu/general_rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

void norm(const Problem& problem, int64_t first, int64_t last);
void order_scale(const Problem& problem, float* ordered);

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
  if (is_general(p)) {
    return GeneralRows<T, kRoundFirst>(p).norm(first, last);
  }
  as_constant(p.operand != nullptr, [&](auto add) {
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
struct Type {
  using type = T;
};

// Calls `function` with T, as it is in memory, and the order of rounding.
template <class Function>
void with_type(const Problem& p, const Function& function) {
  const auto with_half = [&](auto half) {
    using Half = typename decltype(half)::type;
    if (p.held_in_float32) {
      function(Type<Held<Half>>{}, std::true_type{});
    } else {
      as_constant(p.round_before_scale, [&](auto round_first) { function(half, round_first); });
    }
  };
  switch (p.type) {
    case contract::ElementType::kFloat32:
      return function(Type<float>{}, std::false_type{});  // both orders round the quotient to float32
    case contract::ElementType::kFloat16:
      return with_half(Type<Float16>{});
    case contract::ElementType::kBFloat16:
      return with_half(Type<BFloat16>{});
  }
}

}  // namespace

void norm(const Problem& p, int64_t first, int64_t last) {
  with_type(p, [&](auto type, auto round_first) {
    norm_order<typename decltype(type)::type, round_first.value>(p, first, last);
  });
}

void order_scale(const Problem& p, float* ordered) {
  with_type(
      p, [&](auto type, auto round_first) { order_all<typename decltype(type)::type, round_first.value>(p, ordered); });
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
