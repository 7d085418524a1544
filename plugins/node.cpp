#include "node.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace rms_deploy {

namespace {

// The block of axes is [first, last).
struct Block {
  size_t first;
  size_t last;
};

Block block_of(const Node& node, size_t unsigned_rank) {
  const int64_t rank = static_cast<int64_t>(unsigned_rank);
  if (rank == 0) {
    throw Error(node.label + ": X has rank 0; use 1 to " + std::to_string(kMaxRank));
  }
  uint64_t seen = 0;  // a bit for each axis
  for (const int64_t axis : node.axes) {
    if (axis < -rank || axis >= rank) {
      throw Error(node.label + ": axes has " + std::to_string(axis) + "; X has rank " + std::to_string(rank) +
                  ", use " + std::to_string(-rank) + " to " + std::to_string(rank - 1));
    }
    seen |= uint64_t{1} << (axis < 0 ? axis + rank : axis);
  }
  size_t first = 0;
  while ((seen >> first & 1U) == 0) {
    ++first;
  }
  if (seen >> first != (uint64_t{1} << node.axes.size()) - 1) {
    throw Error(node.label + ": axes is " + list_text(node.axes.data(), node.axes.size()) +
                "; use one contiguous block of distinct axes");
  }
  return {first, first + node.axes.size()};
}

// The product of some dimensions; -1 if one of them is not known.
int64_t product(const Shape& shape, size_t first, size_t last) {
  int64_t size = 1;
  for (size_t i = first; i < last; ++i) {
    if (shape.dims[i] < 0) {
      return -1;
    }
    size *= shape.dims[i];
  }
  return size;
}

int64_t size_of(const Shape& shape) { return product(shape, 0, shape.rank); }

std::string shape_text(const Shape& shape) { return list_text(shape.dims, shape.rank); }

bool agree(int64_t a, int64_t b) { return a == b || a < 0 || b < 0; }

bool is_float32_or(int64_t named, ElementType x) {
  return named == static_cast<int64_t>(ElementType::kFloat32) || named == static_cast<int64_t>(x);
}

// The dimension of scale beside an axis of X.
int64_t scale_dim(const Shape& x, const Shape& scale, size_t axis) {
  return axis + scale.rank < x.rank ? 1 : scale.dims[axis + scale.rank - x.rank];
}

// Elements of scale along the axes first ... last - 1 of X; -1 if one of its dimensions is not known.
int64_t scale_size(const Shape& x, const Shape& scale, size_t first, size_t last) {
  const size_t missing = x.rank - scale.rank;
  return product(scale, std::max(first, missing) - missing, std::max(last, missing) - missing);
}

// Whether the axes before `last` along which scale varies have no other axis of X between them.
bool varies_along_neighbours(const Shape& x, const Shape& scale, size_t last) {
  bool varies = false;
  bool ended = false;
  for (size_t axis = 0; axis < last; ++axis) {
    if (scale_dim(x, scale, axis) > 1) {
      if (ended) {
        return false;
      }
      varies = true;
    } else if (x.dims[axis] > 1 && scale_dim(x, scale, axis) == 1) {
      ended = varies;
    }
  }
  return true;
}

struct ScaleRows {
  int64_t count;   // -1: not known
  int64_t repeat;  // of each, for neighbouring rows of X
};

ScaleRows scale_rows(const Shape& x, const Shape& scale, size_t last) {
  const int64_t count = scale_size(x, scale, 0, last);
  size_t end = last;
  while (count != 1 && end > 0 && scale_dim(x, scale, end - 1) == 1) {
    --end;
  }
  return {count, count == 1 ? 1 : product(x, end, last)};
}

// What a norm has that takes axes which end with the last only; null: nothing.
const char* trailing_part(const Kind& kind, bool mixed_sum) {
  return kind.gate != contract::Gate::kNone    ? "a gate"
         : has_shift(kind)                     ? "a shift"
         : kind.sum == contract::Sum::kFloat32 ? "a float32 sum"
         : kind.is_quantized()                 ? "a quantised result"
         : mixed_sum                           ? "a residual of another type than X"
                                               : nullptr;
}

void check_scale(const Node& node, const Shape& x, const Shape& scale, const Block& block) {
  if (scale.rank > x.rank) {  // the function body would give Y more axes than X has
    throw Error(node.label + ": scale has rank " + std::to_string(scale.rank) + "; use at most that of X, " +
                std::to_string(x.rank));
  }
  const int64_t n = product(x, block.first, block.last);
  const int64_t size = scale_size(x, scale, block.first, block.last);
  const bool varies_elsewhere = size != size_of(scale);
  if (size != 1 && !agree(size, n)) {
    throw Error(node.label + ": scale has " + std::to_string(size) + " elements" +
                (varies_elsewhere ? " along the axes" : "") + "; use 1 or " + std::to_string(n));
  }
  const auto refuse = [&](const char* use) {
    throw Error(node.label + ": scale has shape " + shape_text(scale) + "; use one that " + use + shape_text(x));
  };
  for (size_t axis = 0; axis < x.rank; ++axis) {
    const int64_t dim = scale_dim(x, scale, axis);
    if (dim != 1 && !agree(dim, x.dims[axis])) {
      refuse("broadcasts from the right to X ");
    }
    if (axis >= block.last && dim > 1) {
      refuse("is 1 behind the axes of X ");
    }
  }
  if (!varies_along_neighbours(x, scale, block.first)) {
    refuse("has no 1 between the axes that it varies along, beside X ");
  }
  const ScaleRows rows = scale_rows(x, scale, block.first);
  if (std::max(rows.count, rows.repeat) > std::numeric_limits<int32_t>::max()) {
    refuse("has at most 2147483647 rows, each for at most as many rows of X ");
  }
}

}  // namespace

const char* type_name(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kBFloat16:
      return "bfloat16";
  }
  return "";
}

std::string list_text(const int64_t* values, size_t size) {
  std::string text = "[";
  for (size_t i = 0; i < size; ++i) {
    text += (i == 0 ? "" : ",") + std::to_string(values[i]);
  }
  return text + "]";
}

bool rounds_before_scale(const Node& node) { return node.scale_type != static_cast<int64_t>(ElementType::kFloat32); }

bool takes_type(const Node& node, ElementType x) {
  return is_float32_or(node.scale_type, x) && is_float32_or(node.precision, x);
}

void check_named_types(const Node& node, ElementType x) {
  for (const auto& [name, value] :
       {std::pair{contract::kScaleType, node.scale_type}, std::pair{contract::kPrecision, node.precision}}) {
    if (!is_float32_or(value, x)) {
      throw Error(node.label + ": " + name + " is " + std::to_string(value) + "; use 1 (float32)" +
                  (x == ElementType::kFloat32
                       ? ", the type of X"
                       : " or " + std::to_string(static_cast<int32_t>(x)) + " (" + type_name(x) + ", the type of X)"));
    }
  }
}

void check_axes(const Node& node, size_t rank, bool mixed_sum) {
  const Block block = block_of(node, rank);
  const char* part = trailing_part(node.kind, mixed_sum);
  if (part != nullptr && block.last != rank) {
    throw Error(node.label + ": axes is " + list_text(node.axes.data(), node.axes.size()) + ", X has rank " +
                std::to_string(rank) + "; use axes that end with the last: a norm with " + part + " takes no others");
  }
}

void check_shapes(const Node& node, const Shape& x, const Shape* operand, const Shape& scale, const Shape* shift,
                  bool mixed_sum) {
  check_axes(node, x.rank, mixed_sum);
  const Block block = block_of(node, x.rank);
  if (operand != nullptr && (operand->rank != x.rank || !std::equal(x.dims, x.dims + x.rank, operand->dims, agree))) {
    throw Error(node.label + ": " + operand_name(node.kind) + " has shape " + shape_text(*operand) +
                "; use that of X, " + shape_text(x) +
                (node.kind.is_add()
                     ? ", or fuse without residual Adds (fuse --no-residual): they broadcast, and this op does not"
                     : ""));
  }
  check_scale(node, x, scale, block);
  if (shift != nullptr &&
      (shift->rank != scale.rank || !std::equal(scale.dims, scale.dims + scale.rank, shift->dims, agree))) {
    throw Error(node.label + ": shift has shape " + shape_text(*shift) + "; use that of scale, " + shape_text(scale));
  }
  const int64_t n = product(x, block.first, block.last);
  if (n >= 0 && node.partial_size > n) {
    throw Error(node.label + ": partial_size is " + std::to_string(node.partial_size) + "; use 1 to " +
                std::to_string(n) + ", the number of normalised elements");
  }
}

Problem problem_of(const Node& node, const Shape& x, const Shape& scale) {
  const Block block = block_of(node, x.rank);
  Problem problem;
  problem.outer = product(x, 0, block.first);
  problem.n = product(x, block.first, block.last);
  problem.inner = product(x, block.last, x.rank);
  problem.statistics_size = node.partial_size != 0 ? node.partial_size : problem.n;
  problem.scalar_scale = scale_size(x, scale, block.first, block.last) == 1;
  const ScaleRows rows = scale_rows(x, scale, block.first);
  problem.scale_rows = static_cast<int32_t>(rows.count);
  problem.scale_repeat = static_cast<int32_t>(rows.repeat);
  problem.gate = node.kind.gate;
  problem.normalizes_float32_sum = node.kind.sum == contract::Sum::kFloat32;
  problem.round_before_scale = rounds_before_scale(node);
  problem.round_reciprocal = node.kind.is_reciprocal && rounds_before_scale(node);
  problem.epsilon = node.epsilon;
  problem.rms_epsilon = node.rms_epsilon;
  problem.rms_min = node.rms_min;
  problem.y_scale = node.y_scale;
  problem.round_quotient = node.precision != static_cast<int64_t>(ElementType::kFloat32);
  problem.quantized_type = node.output_dtype;
  return problem;
}

}  // namespace rms_deploy
