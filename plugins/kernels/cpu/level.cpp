// Compiled once per instruction-set level, with RMS_DEPLOY_LEVEL as its namespace. Turns the types and options of a
// Problem into template arguments.
#include "kernels/cpu/channels.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

void norm(const Problem& problem, int64_t first, int64_t last);

namespace {

template <class T, class S, bool kRoundFirst, bool kScalar, bool kAdd>
void norm_view(const Problem& p, int64_t first, int64_t last) {
  if (p.inner == 1) {
    norm_rows<T, S, kRoundFirst, kScalar, kAdd>(p, first, last);
  } else {
    norm_columns<T, S, kRoundFirst, kScalar, kAdd>(p, first, last);
  }
}

template <class T, class S, bool kRoundFirst>
void norm_order(const Problem& p, int64_t first, int64_t last) {
  const bool add = p.residual != nullptr;
  if (p.scalar_scale) {
    add ? norm_view<T, S, kRoundFirst, true, true>(p, first, last)
        : norm_view<T, S, kRoundFirst, true, false>(p, first, last);
  } else {
    add ? norm_view<T, S, kRoundFirst, false, true>(p, first, last)
        : norm_view<T, S, kRoundFirst, false, false>(p, first, last);
  }
}

template <class T, class S>
void norm_types(const Problem& p, int64_t first, int64_t last) {
  if constexpr (std::is_same_v<T, float>) {  // both orders round the quotient to float32
    norm_order<T, S, false>(p, first, last);
  } else {
    p.round_before_scale ? norm_order<T, S, true>(p, first, last) : norm_order<T, S, false>(p, first, last);
  }
}

template <class T>
void norm_type(const Problem& p, int64_t first, int64_t last) {
  if (p.held_in_float32) {
    return norm_order<Held<T>, float, true>(p, first, last);
  }
  p.scale_type == contract::ElementType::kFloat32 ? norm_types<T, float>(p, first, last)
                                                  : norm_types<T, T>(p, first, last);
}

}  // namespace

void norm(const Problem& p, int64_t first, int64_t last) {
  switch (p.type) {
    case contract::ElementType::kFloat32:
      return norm_types<float, float>(p, first, last);
    case contract::ElementType::kFloat16:
      return norm_type<Float16>(p, first, last);
    case contract::ElementType::kBFloat16:
      return norm_type<BFloat16>(p, first, last);
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
