#include "onnxruntime/kernel.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

Kernel::Kernel(const Api& api, const KernelInfo* info, const Kind& kind, ElementType type, ElementType scale_type)
    : api_(api), node_(read_attributes(api, info, kind, type)), type_(type), scale_type_(scale_type) {
  if (const Value* scale = constant_scale(info)) {
    constant_scale_ = shape_of(scale, "scale");
    scale_is_constant_ = true;
  }
}

const Value* Kernel::constant_scale(const KernelInfo* info) const {
  int is_constant = 0;
  const Value* scale = nullptr;
  check(
      api_.KernelInfoGetConstantInput_tensor(info, operand_name(node_.kind) == nullptr ? 1 : 2, &is_constant, &scale));
  return is_constant != 0 ? scale : nullptr;
}

Problem Kernel::constant_scale_problem(const KernelInfo* info) const {
  Problem problem;
  if (const Value* scale = constant_scale(info)) {
    problem.type = problem_type();
    problem.scale_type = scale_type_;
    problem.scale = data_of(scale);
    problem.n = std::accumulate(constant_scale_.dims, constant_scale_.dims + constant_scale_.rank, int64_t{1},
                                std::multiplies<>());
    problem.scalar_scale = problem.n == 1;
    problem.round_before_scale = rounds_before_scale(node_);
  }
  return problem;
}

void* Kernel::data_of(const Value* value) const {
  void* data = nullptr;
  check(api_.GetTensorMutableData(const_cast<Value*>(value), &data));
  return data;
}

Shape Kernel::shape_of(const Value* value, const char* name) const {
  Shape shape;
  if (api_.GetTensorElementTypeAndShapeDataReference != nullptr) {
    int32_t type = 0;
    const int64_t* dims = nullptr;
    check(api_.GetTensorElementTypeAndShapeDataReference(value, &type, &dims, &shape.rank));
    std::copy_n(dims, std::min(shape.rank, kMaxRank), shape.dims);
  } else {
    TensorInfo* info = nullptr;
    check(api_.GetTensorTypeAndShape(value, &info));
    Status* status = api_.GetDimensionsCount(info, &shape.rank);
    if (status == nullptr && shape.rank <= kMaxRank) {
      status = api_.GetDimensions(info, shape.dims, shape.rank);
    }
    api_.ReleaseTensorTypeAndShapeInfo(info);
    check(status);
  }
  if (shape.rank > kMaxRank) {
    throw Error(node_.label + ": " + name + " has rank " + std::to_string(shape.rank) + "; use at most " +
                std::to_string(kMaxRank));
  }
  return shape;
}

void Kernel::compute(KernelContext* context) const {
  const char* operand = operand_name(node_.kind);
  const auto input = [&](size_t index) {
    const Value* value = nullptr;
    check(api_.KernelContext_GetInput(context, index, &value));
    if (value == nullptr) {
      throw Error(node_.label + ": input " + std::to_string(index) + " is missing");
    }
    return value;
  };
  const Value* x = input(0);
  const Value* second = operand == nullptr ? nullptr : input(1);
  const Value* scale = input(operand == nullptr ? 1 : 2);
  const Shape shape = shape_of(x, "X");
  const Shape scale_shape = scale_is_constant_ ? constant_scale_ : shape_of(scale, "scale");
  if (operand != nullptr) {
    const Shape second_shape = shape_of(second, operand);
    check_shapes(node_, shape, &second_shape, scale_shape);
  } else {
    check_shapes(node_, shape, nullptr, scale_shape);
  }
  const auto output = [&](size_t index) -> void* {
    Value* value = nullptr;
    check(api_.KernelContext_GetOutput(context, index, shape.dims, shape.rank, &value));
    return value == nullptr ? nullptr : data_of(value);
  };

  Problem problem = problem_of(node_, shape, scale_shape);
  problem.type = problem_type();
  problem.scale_type = scale_type_;
  problem.x = data_of(x);
  problem.scale = data_of(scale);
  problem.y = output(0);
  problem.operand = second == nullptr ? nullptr : data_of(second);
  problem.sum = node_.kind.is_add ? output(1) : nullptr;
  if (problem.outer * problem.n * problem.inner != 0) {
    run(context, problem);
  }
}

}  // namespace rms_deploy::ort
