#include "tensorrt/problem.h"

#include <algorithm>
#include <optional>
#include <string>

#include "tensorrt/error.h"

namespace rms_deploy::trt {

namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

Shape shape_of(const Dims& dims) {
  Shape shape;
  shape.rank = static_cast<size_t>(std::max(dims.nbDims, 0));  // an invalid Dims has -1
  std::copy_n(dims.d, shape.rank, shape.dims);
  return shape;
}

// Nothing for a type that is not the contract's.
std::optional<ElementType> element_type(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return ElementType::kFloat32;
    case DataType::kHALF:
      return ElementType::kFloat16;
    case DataType::kBF16:
      return ElementType::kBFloat16;
    default:
      return std::nullopt;
  }
}

std::string type_text(DataType type) {
  const std::optional<ElementType> element = element_type(type);
  return element ? type_name(*element) : "DataType " + std::to_string(static_cast<int32_t>(type));
}

}  // namespace

int32_t input_count(const Kind& kind) { return operand_name(kind) == nullptr ? 2 : 3; }

int32_t output_count(const Kind& kind) { return kind.is_add ? 2 : 1; }

bool takes_type(const Node& node, DataType type) {
  const std::optional<ElementType> x = element_type(type);
  return x && rms_deploy::takes_type(node, *x);
}

void check_types(const Node& node, const DataType* inputs) {
  const DataType x = inputs[kX];
  const DataType scale = inputs[input_count(node.kind) - 1];
  const std::optional<ElementType> element = element_type(x);
  if (!element) {
    throw Error(node.label + ": X has " + type_text(x) + "; use float32, float16 or bfloat16");
  }
  const char* operand = operand_name(node.kind);
  if (operand != nullptr && inputs[kOperand] != x) {
    throw Error(node.label + ": " + operand + " has " + type_text(inputs[kOperand]) + "; use " + type_text(x) +
                ", the type of X");
  }
  if (scale != x && scale != DataType::kFLOAT) {
    throw Error(node.label + ": scale has " + type_text(scale) + "; use float32" +
                (x == DataType::kFLOAT ? "" : " or " + type_text(x) + ", the type of X"));
  }
  check_scale_type(node, *element);
}

void check_ranks(const Node& node, const int32_t* ranks) {
  const int32_t x = ranks[kX];
  if (x < 1) {
    throw Error(node.label + ": X has rank 0; use 1 to " + std::to_string(Dims::MAX_DIMS));
  }
  check_axes(node, static_cast<size_t>(x));
  const char* operand = operand_name(node.kind);
  if (operand != nullptr && ranks[kOperand] != x) {
    throw Error(node.label + ": " + operand + " has rank " + std::to_string(ranks[kOperand]) + "; use " +
                std::to_string(x) + ", that of X");
  }
}

void check_shapes(const Node& node, const Dims* const* inputs) {
  const int32_t ranks[] = {inputs[kX]->nbDims, inputs[kOperand]->nbDims};
  check_ranks(node, ranks);
  const Shape operand = shape_of(*inputs[kOperand]);
  rms_deploy::check_shapes(node, shape_of(*inputs[kX]), operand_name(node.kind) == nullptr ? nullptr : &operand,
                           shape_of(*inputs[input_count(node.kind) - 1]));
}

Problem problem_of(const Node& node, const nvinfer1::PluginTensorDesc* inputs) {
  const nvinfer1::PluginTensorDesc& x = inputs[kX];
  const nvinfer1::PluginTensorDesc& scale = inputs[input_count(node.kind) - 1];
  Problem problem = rms_deploy::problem_of(node, shape_of(x.dims), shape_of(scale.dims));
  problem.type = *element_type(x.type);
  problem.scale_type = *element_type(scale.type);
  return problem;
}

}  // namespace rms_deploy::trt
