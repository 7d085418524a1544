// The attributes of a node, read once when its kernel is created, and held against the contract.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract.h"
#include "onnxruntime/api.h"

namespace rms_deploy::ort {

enum class Kind { kNorm, kPartialNorm, kAddNorm };

struct Attributes {
  std::string node;  // "RMSNorm node 'name'", for messages
  std::vector<int64_t> axes;
  float epsilon;
  float rms_epsilon;
  float rms_min;
  bool round_before_scale;
  contract::ElementType rounding;  // the type that all is rounded to: that of X, or a 16-bit type in a float32 X
  int64_t partial_size;            // 0: all
};

// Highest rank of X: shapes are kept on the stack, and sets of axes in the bits of an integer.
inline constexpr size_t kMaxRank = 32;

// The tensor as (outer, n, inner); the block of axes is [first, last).
struct View {
  size_t first;
  size_t last;
  int64_t outer;
  int64_t n;
  int64_t inner;
};

const char* op_name(Kind kind);

std::string shape_text(const int64_t* dims, size_t rank);

// Throws Error, which names the node, the attribute, its value and what is accepted.
Attributes read_attributes(const Api& api, const KernelInfo* info, Kind kind, contract::ElementType type);

View view_of(const Attributes& attributes, const int64_t* dims, size_t rank);

}  // namespace rms_deploy::ort
