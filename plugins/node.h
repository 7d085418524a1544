// One norm of a model: its attributes, and the types and shapes of its tensors, held against the contract.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/problem.h"

namespace rms_deploy {

using contract::ElementType;

using contract::Kind;

// The input between X and scale, which has the shape of X; null: there is none.
inline const char* operand_name(const Kind& kind) {
  return kind.is_add() ? "R" : kind.gate != contract::Gate::kNone ? "Z" : nullptr;
}

inline constexpr int kMostInputs = 4;

// The place of scale among the inputs; shift follows it.
inline int scale_index(const Kind& kind) { return operand_name(kind) == nullptr ? 1 : 2; }

inline bool has_shift(const Kind& kind) { return kind.end == contract::End::kShift; }

inline int input_count(const Kind& kind) { return scale_index(kind) + (has_shift(kind) ? 2 : 1); }

inline int output_count(const Kind& kind) { return kind.is_add() ? 2 : 1; }

const char* type_name(ElementType type);  // "float16"

struct Node {
  Kind kind;
  std::string label;          // "RMSNorm node 'name'", for messages
  std::vector<int64_t> axes;  // as given
  float epsilon;
  float rms_epsilon;
  float rms_min;
  int64_t scale_type;    // one of ElementType
  int64_t partial_size;  // 0: all
  float y_scale;         // 0: Y is not quantised
  contract::QuantizedType output_dtype;
  int64_t precision;  // one of ElementType; kFloat32 where Y is not quantised
};

// What is wrong with a node, in one line that names it.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Highest rank of a tensor: shapes are kept on the stack, and sets of axes in the bits of an integer.
inline constexpr size_t kMaxRank = 32;

// A dimension of -1 is not known yet, as in a TensorRT network that is being built.
struct Shape {
  size_t rank;
  int64_t dims[kMaxRank];
};

std::string list_text(const int64_t* values, size_t size);

// Whether x / rms is rounded to the type of X before it is scaled.
bool rounds_before_scale(const Node& node);

// Whether scale_type and precision are float32 or the type of X.
bool takes_type(const Node& node, ElementType x);

// Throws Error if one is neither.
void check_named_types(const Node& node, ElementType x);

// Throws Error if the axes are not one block of a tensor of this rank. `mixed_sum`: R has another type than X.
void check_axes(const Node& node, size_t rank, bool mixed_sum);

// Throws Error if R or Z, or scale, does not fit X, or shift does not fit scale. `operand` and `shift` are null where
// the node has none. An unknown dimension fits any.
void check_shapes(const Node& node, const Shape& x, const Shape* operand, const Shape& scale, const Shape* shift,
                  bool mixed_sum);

// The problem without its pointers and types. The shapes have been checked. Allocates nothing.
Problem problem_of(const Node& node, const Shape& x, const Shape& scale);

}  // namespace rms_deploy
