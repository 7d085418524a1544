#include "tensorrt/problem.h"

#include <algorithm>

#include "tensorrt/error.h"

namespace rms_deploy::trt {

namespace {

using contract::ElementType;
using nvinfer1::DataType;
using nvinfer1::Dims;

Shape shape_of(const Dims& dims) {
  Shape shape;
  shape.rank = static_cast<size_t>(std::max(dims.nbDims, 0));  // an invalid Dims has -1
  std::copy_n(dims.d, shape.rank, shape.dims);
  return shape;
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
    throw Error(a.label + ": X has " + type_text(x) + "; use float32, float16 or bfloat16");
  }
  if (a.kind == Kind::kAddNorm && inputs[kResidual] != x) {
    throw Error(a.label + ": R has " + type_text(inputs[kResidual]) + "; use " + type_text(x) + ", the type of X");
  }
  if (scale != x && scale != DataType::kFLOAT) {
    throw Error(a.label + ": scale has " + type_text(scale) + "; use float32" +
                (x == DataType::kFLOAT ? "" : " or " + type_text(x) + ", the type of X"));
  }
  if (!takes_type(a, x)) {
    throw Error(a.label + ": scale_type is " + std::to_string(a.scale_type) + "; use 1 (float32)" +
                (x == DataType::kFLOAT
                     ? ", the type of X"
                     : " or " + std::to_string(number_of(x)) + " (" + type_text(x) + ", the type of X)"));
  }
}

void check_ranks(const Attributes& a, const int32_t* ranks) {
  const int32_t x = ranks[kX];
  if (x < 1) {
    throw Error(a.label + ": X has rank 0; use 1 to " + std::to_string(Dims::MAX_DIMS));
  }
  check_axes(a, static_cast<size_t>(x));
  if (a.kind == Kind::kAddNorm && ranks[kResidual] != x) {
    throw Error(a.label + ": R has rank " + std::to_string(ranks[kResidual]) + "; use " + std::to_string(x) +
                ", that of X");
  }
}

void check_shapes(const Attributes& a, const Dims* const* inputs) {
  const int32_t ranks[] = {inputs[kX]->nbDims, inputs[kResidual]->nbDims};
  check_ranks(a, ranks);
  const Shape residual = shape_of(*inputs[kResidual]);
  rms_deploy::check_shapes(a, shape_of(*inputs[kX]), a.kind == Kind::kAddNorm ? &residual : nullptr,
                           shape_of(*inputs[input_count(a.kind) - 1]));
}

Problem problem_of(const Attributes& a, const nvinfer1::PluginTensorDesc* inputs) {
  const nvinfer1::PluginTensorDesc& x = inputs[kX];
  const nvinfer1::PluginTensorDesc& scale = inputs[input_count(a.kind) - 1];
  Problem problem = rms_deploy::problem_of(a, shape_of(x.dims), shape_of(scale.dims));
  problem.type = element_type(x.type);
  problem.scale_type = element_type(scale.type);
  problem.round_before_scale = rounds_before_scale(a);
  return problem;
}

}  // namespace rms_deploy::trt
