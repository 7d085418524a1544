#include "onnxruntime/kernel.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

Kernel::Kernel(const Api& api, const KernelInfo* info, Kind kind, ElementType type, ElementType scale_type)
    : api_(api), node_(read_attributes(api, info, kind, type)), type_(type), scale_type_(scale_type) {
  if (const Value* scale = constant_scale(info)) {
    constant_scale_ = shape_of(scale, "scale");
    scale_is_constant_ = true;
  }
}

const Value* Kernel::constant_scale(const KernelInfo* info) const {
  int is_constant = 0;
  const Value* scale = nullptr;
  check(api_.KernelInfoGetConstantInput_tensor(info, is_add(node_.kind) ? 2 : 1, &is_constant, &scale));
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
  const bool add = is_add(node_.kind);
  const auto input = [&](size_t index) {
    const Value* value = nullptr;
    check(api_.KernelContext_GetInput(context, index, &value));
    if (value == nullptr) {
      throw Error(node_.label + ": input " + std::to_string(index) + " is missing");
    }
    return value;
  };
  const Value* x = input(0);
  const Value* residual = add ? input(1) : nullptr;
  const Value* scale = input(add ? 2 : 1);
  const Shape shape = shape_of(x, "X");
  const Shape scale_shape = scale_is_constant_ ? constant_scale_ : shape_of(scale, "scale");
  if (add) {
    const Shape residual_shape = shape_of(residual, "R");
    check_shapes(node_, shape, &residual_shape, scale_shape);
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
  if (add) {
    problem.residual = data_of(residual);
    problem.sum = output(1);
  }
  if (problem.outer * problem.n * problem.inner != 0) {
    run(context, problem);
  }
}

}  // namespace rms_deploy::ort
