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

enum class Kind { kNorm, kPartialNorm, kAddNorm, kReciprocalNorm, kPartialReciprocalNorm, kAddReciprocalNorm };

inline constexpr Kind kKinds[] = {Kind::kNorm,           Kind::kPartialNorm,           Kind::kAddNorm,
                                  Kind::kReciprocalNorm, Kind::kPartialReciprocalNorm, Kind::kAddReciprocalNorm};

const char* op_name(Kind kind);

inline bool is_partial(Kind kind) { return kind == Kind::kPartialNorm || kind == Kind::kPartialReciprocalNorm; }

inline bool is_add(Kind kind) { return kind == Kind::kAddNorm || kind == Kind::kAddReciprocalNorm; }

// Whether 1 / rms is rounded before x is multiplied by it.
inline bool is_reciprocal(Kind kind) { return kind >= Kind::kReciprocalNorm; }

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

// Whether scale_type is float32 or the type of X.
bool takes_type(const Node& node, ElementType x);

// Throws Error if it is neither.
void check_scale_type(const Node& node, ElementType x);

// Throws Error if the axes are not one block of a tensor of this rank.
void check_axes(const Node& node, size_t rank);

// Throws Error if R or scale does not fit X. `residual` is null where the node has no R. An unknown dimension fits any.
void check_shapes(const Node& node, const Shape& x, const Shape* residual, const Shape& scale);

// The problem without its pointers and types. The shapes have been checked. Allocates nothing.
Problem problem_of(const Node& node, const Shape& x, const Shape& scale);

}  // namespace rms_deploy
