#include "tensorrt/problem.h"

#include <algorithm>

#include "tensorrt/error.h"

namespace rms_deploy::trt {

namespace {

using contract::ElementType;
using nvinfer1::DataType;
using nvinfer1::Dims;

// The block of axes is [first, last).
struct Block {
  int32_t first;
  int32_t last;
};

// `node` is used for messages only.
Block block_of(const Attributes& attributes, int32_t rank) {
  uint64_t seen = 0;  // a bit for each axis
  for (const int64_t axis : attributes.axes) {
    if (axis < -rank || axis >= rank) {
      throw Error(attributes.node + ": axes has " + std::to_string(axis) + "; X has rank " + std::to_string(rank) +
                  ", use " + std::to_string(-rank) + " to " + std::to_string(rank - 1));
    }
    seen |= uint64_t{1} << (axis < 0 ? axis + rank : axis);
  }
  int32_t first = 0;
  while ((seen >> first & 1U) == 0) {
    ++first;
  }
  if (seen >> first != (uint64_t{1} << attributes.axes.size()) - 1) {
    throw Error(attributes.node + ": axes is " + list_text(attributes.axes.data(), attributes.axes.size()) +
                "; use one contiguous block of distinct axes");
  }
  return {first, first + static_cast<int32_t>(attributes.axes.size())};
}

std::string shape_text(const Dims& dims) { return list_text(dims.d, static_cast<size_t>(dims.nbDims)); }

// The product of some dimensions; -1 if one of them is not known.
int64_t product(const Dims& dims, int32_t first, int32_t last) {
  int64_t size = 1;
  for (int32_t i = first; i < last; ++i) {
    if (dims.d[i] < 0) {
      return -1;
    }
    size *= dims.d[i];
  }
  return size;
}

bool agree(int64_t a, int64_t b) { return a == b || a < 0 || b < 0; }

void check_scale(const Attributes& attributes, const Dims& x, const Dims& scale, const Block& block) {
  const int64_t size = product(scale, 0, scale.nbDims);
  const int64_t n = product(x, block.first, block.last);
  if (size == 1 || size < 0) {  // one element, in any shape; or not known yet
    return;
  }
  if (!agree(size, n)) {
    throw Error(attributes.node + ": scale has " + std::to_string(size) + " elements; use 1 or " + std::to_string(n));
  }
  bool fits = scale.nbDims <= x.nbDims;
  for (int32_t i = 0; fits && i < scale.nbDims; ++i) {
    const int32_t axis = x.nbDims - scale.nbDims + i;
    fits = agree(scale.d[i], axis >= block.first && axis < block.last ? x.d[axis] : 1);
  }
  if (!fits) {
    throw Error(attributes.node + ": scale has shape " + shape_text(scale) + "; use one that broadcasts to X " +
                shape_text(x) + " from the right, with 1 outside the axes");
  }
}

const char* type_name(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return "float32";
    case DataType::kHALF:
      return "float16";
    case DataType::kBF16:
      return "bfloat16";
    default:
      return nullptr;
  }
}

std::string type_text(DataType type) {
  const char* name = type_name(type);
  return name == nullptr ? "DataType " + std::to_string(static_cast<int32_t>(type)) : name;
}

// `type` is one of the contract's.
ElementType element_type(DataType type) {
  return type == DataType::kHALF   ? ElementType::kFloat16
         : type == DataType::kBF16 ? ElementType::kBFloat16
                                   : ElementType::kFloat32;
}

int64_t number_of(DataType type) { return static_cast<int64_t>(element_type(type)); }

bool rounds_before_scale(const Attributes& a) { return a.scale_type != static_cast<int64_t>(ElementType::kFloat32); }

}  // namespace

int32_t input_count(Kind kind) { return kind == Kind::kAddNorm ? 3 : 2; }

int32_t output_count(Kind kind) { return kind == Kind::kAddNorm ? 2 : 1; }

bool takes_type(const Attributes& a, DataType type) {
  return type_name(type) != nullptr && (!rounds_before_scale(a) || a.scale_type == number_of(type));
}

void check_types(const Attributes& a, const DataType* inputs) {
  const DataType x = inputs[kX];
  const DataType scale = inputs[input_count(a.kind) - 1];
  if (type_name(x) == nullptr) {
    throw Error(a.node + ": X has " + type_text(x) + "; use float32, float16 or bfloat16");
  }
  if (a.kind == Kind::kAddNorm && inputs[kResidual] != x) {
    throw Error(a.node + ": R has " + type_text(inputs[kResidual]) + "; use " + type_text(x) + ", the type of X");
  }
  if (scale != x && scale != DataType::kFLOAT) {
    throw Error(a.node + ": scale has " + type_text(scale) + "; use float32" +
                (x == DataType::kFLOAT ? "" : " or " + type_text(x) + ", the type of X"));
  }
  if (!takes_type(a, x)) {
    throw Error(a.node + ": scale_type is " + std::to_string(a.scale_type) + "; use 1 (float32)" +
                (x == DataType::kFLOAT
                     ? ", the type of X"
                     : " or " + std::to_string(number_of(x)) + " (" + type_text(x) + ", the type of X)"));
  }
}

void check_ranks(const Attributes& a, const int32_t* ranks) {
  const int32_t x = ranks[kX];
  if (x < 1) {
    throw Error(a.node + ": X has rank 0; use 1 to " + std::to_string(Dims::MAX_DIMS));
  }
  block_of(a, x);
  if (a.kind == Kind::kAddNorm && ranks[kResidual] != x) {
    throw Error(a.node + ": R has rank " + std::to_string(ranks[kResidual]) + "; use " + std::to_string(x) +
                ", that of X");
  }
}

void check_shapes(const Attributes& a, const Dims* const* inputs) {
  const Dims& x = *inputs[kX];
  const int32_t ranks[] = {x.nbDims, inputs[kResidual]->nbDims};
  check_ranks(a, ranks);
  const Block block = block_of(a, x.nbDims);
  if (a.kind == Kind::kAddNorm && !std::equal(x.d, x.d + x.nbDims, inputs[kResidual]->d, agree)) {
    throw Error(a.node + ": R has shape " + shape_text(*inputs[kResidual]) + "; use that of X, " + shape_text(x));
  }
  check_scale(a, x, *inputs[input_count(a.kind) - 1], block);
  const int64_t n = product(x, block.first, block.last);
  if (n >= 0 && a.partial_size > n) {
    throw Error(a.node + ": partial_size is " + std::to_string(a.partial_size) + "; use 1 to " + std::to_string(n) +
                ", the number of normalised elements");
  }
}

Problem problem_of(const Attributes& a, const nvinfer1::PluginTensorDesc* inputs) {
  const nvinfer1::PluginTensorDesc& x = inputs[kX];
  const nvinfer1::PluginTensorDesc& scale = inputs[input_count(a.kind) - 1];
  const Block block = block_of(a, x.dims.nbDims);
  Problem problem;
  problem.type = element_type(x.type);
  problem.scale_type = element_type(scale.type);
  problem.outer = product(x.dims, 0, block.first);
  problem.n = product(x.dims, block.first, block.last);
  problem.inner = product(x.dims, block.last, x.dims.nbDims);
  problem.statistics_size = a.partial_size != 0 ? a.partial_size : problem.n;
  problem.scalar_scale = product(scale.dims, 0, scale.dims.nbDims) == 1;
  problem.round_before_scale = rounds_before_scale(a);
  problem.epsilon = a.epsilon;
  problem.rms_epsilon = a.rms_epsilon;
  problem.rms_min = a.rms_min;
  return problem;
}

}  // namespace rms_deploy::trt
