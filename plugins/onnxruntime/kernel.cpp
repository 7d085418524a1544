#include "onnxruntime/kernel.h"

#include <algorithm>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

Kernel::Kernel(const Api& api, const KernelInfo* info, Kind kind, ElementType type, ElementType scale_type)
    : api_(api), node_(read_attributes(api, info, kind, type)), type_(type), scale_type_(scale_type) {
  int is_constant = 0;
  const Value* scale = nullptr;
  check(api.KernelInfoGetConstantInput_tensor(info, is_add(kind) ? 2 : 1, &is_constant, &scale));
  if (is_constant != 0 && scale != nullptr) {
    constant_scale_ = shape_of(scale, "scale");
    scale_is_constant_ = true;
  }
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
  const auto data = [&](const Value* value) {
    void* pointer = nullptr;
    check(api_.GetTensorMutableData(const_cast<Value*>(value), &pointer));
    return pointer;
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
    return value == nullptr ? nullptr : data(value);
  };

  Problem problem = problem_of(node_, shape, scale_shape);
  problem.type = is_promoted() ? static_cast<ElementType>(node_.scale_type) : type_;
  problem.scale_type = scale_type_;
  problem.x = data(x);
  problem.scale = data(scale);
  problem.y = output(0);
  if (add) {
    problem.residual = data(residual);
    problem.sum = output(1);
  }
  if (problem.outer * problem.n * problem.inner != 0) {
    run(context, problem);
  }
}

}  // namespace rms_deploy::ort
