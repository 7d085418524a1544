#include "tensorrt/problem.h"

#include <algorithm>
#include <optional>
#include <string>

#include "tensorrt/error.h"

namespace rms_deploy::trt {

namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;

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

bool is_float32_or(DataType x, DataType type) { return type == x || type == DataType::kFLOAT; }

std::string float32_or(DataType x) {
  return "float32" + (x == DataType::kFLOAT ? "" : " or " + type_text(x) + ", the type of X");
}

}  // namespace

bool takes_type_at(const Node& node, int32_t place, const DataType* types) {
  const DataType type = types[place], x = types[kX];
  const int32_t scale = scale_index(node.kind);
  if (place == kX) {
    const std::optional<ElementType> element = element_type(type);
    return element && takes_type(node, *element);
  }
  if (place == kOperand && node.kind.is_add()) {
    return is_float32_or(x, type);
  }
  if (place >= input_count(node.kind)) {
    return type == output_type(node, place - input_count(node.kind), types);
  }
  return place < scale ? type == x : place == scale ? is_float32_or(x, type) : type == types[scale];
}

DataType output_type(const Node& node, int32_t output, const DataType* inputs) {
  if (output > 0) {
    return inputs[kOperand];  // Sum has the type of R
  }
  switch (node.output_dtype) {
    case contract::QuantizedType::kInt8:
      return DataType::kINT8;
    case contract::QuantizedType::kFloat8E4M3FN:
      return DataType::kFP8;
    case contract::QuantizedType::kNone:
      break;
  }
  return inputs[kX];
}

void check_types(const Node& node, const DataType* inputs) {
  const int32_t scale = scale_index(node.kind);
  const DataType x = inputs[kX];
  const auto refuse = [&](const char* name, int32_t place, const std::string& use) {
    throw Error(node.label + ": " + name + " has " + type_text(inputs[place]) + "; use " + use);
  };
  const std::optional<ElementType> element = element_type(x);
  if (!element) {
    refuse("X", kX, "float32, float16 or bfloat16");
  }
  const char* operand = operand_name(node.kind);
  if (node.kind.is_add() && !is_float32_or(x, inputs[kOperand])) {
    refuse(operand, kOperand, float32_or(x));
  }
  if (operand != nullptr && !node.kind.is_add() && inputs[kOperand] != x) {
    refuse(operand, kOperand, type_text(x) + ", the type of X");
  }
  if (!is_float32_or(x, inputs[scale])) {
    refuse("scale", scale, float32_or(x));
  }
  if (has_shift(node.kind) && inputs[scale + 1] != inputs[scale]) {
    refuse("shift", scale + 1, type_text(inputs[scale]) + ", the type of scale");
  }
  check_named_types(node, *element);
}

void check_ranks(const Node& node, const int32_t* ranks) {
  const int32_t x = ranks[kX];
  if (x < 1) {
    throw Error(node.label + ": X has rank 0; use 1 to " + std::to_string(Dims::MAX_DIMS));
  }
  check_axes(node, static_cast<size_t>(x), false);
  const char* operand = operand_name(node.kind);
  if (operand != nullptr && ranks[kOperand] != x) {
    throw Error(node.label + ": " + operand + " has rank " + std::to_string(ranks[kOperand]) + "; use " +
                std::to_string(x) + ", that of X");
  }
}

void check_tensors(const Node& node, const PluginTensorDesc* const* inputs) {
  DataType types[kMostInputs];
  Shape shapes[kMostInputs];
  for (int32_t i = 0; i < input_count(node.kind); ++i) {
    types[i] = inputs[i]->type;
    shapes[i] = shape_of(inputs[i]->dims);
  }
  check_types(node, types);
  const int32_t ranks[] = {inputs[kX]->dims.nbDims, inputs[kOperand]->dims.nbDims};
  check_ranks(node, ranks);
  const int32_t scale = scale_index(node.kind);
  check_shapes(node, shapes[kX], operand_name(node.kind) == nullptr ? nullptr : &shapes[kOperand], shapes[scale],
               has_shift(node.kind) ? &shapes[scale + 1] : nullptr, node.kind.is_add() && types[kOperand] != types[kX]);
}

Problem problem_of(const Node& node, const PluginTensorDesc* inputs) {
  const PluginTensorDesc& x = inputs[kX];
  const PluginTensorDesc& scale = inputs[scale_index(node.kind)];
  Problem problem = rms_deploy::problem_of(node, shape_of(x.dims), shape_of(scale.dims));
  problem.type = *element_type(x.type);
  problem.scale_type = *element_type(scale.type);
  problem.sum_type = node.kind.is_add() ? *element_type(inputs[kOperand].type) : problem.type;
  return problem;
}

}  // namespace rms_deploy::trt
