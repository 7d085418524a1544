#include "onnxruntime/kernel.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

namespace {

// What the name of a promoted node's output begins with.
constexpr const char* kPromoted = "InsertedPrecisionFreeCast_";

}  // namespace

Kernel::Kernel(const Api& api, const KernelInfo* info, const Kind& kind, const Types& types)
    : api_(api),
      node_(read_attributes(api, info, kind, types.x)),
      is_promoted_(types.x == ElementType::kFloat32 && rounds_before_scale(node_)),
      types_(is_promoted_ ? promoted_types(info, types) : types) {
  if (const Value* scale = constant_scale(info)) {
    constant_scale_ = shape_of(scale, "scale");
    scale_is_constant_ = true;
  }
}

// R and Sum of a promoted node are float32 in the model too, unless ONNX Runtime promoted them with X: then it has
// given Sum a name of its own.
Types Kernel::promoted_types(const KernelInfo* info, const Types& types) const {
  const auto half = static_cast<ElementType>(node_.scale_type);
  const bool keeps_sum = node_.kind.is_add() && output_name(api_, info, 1).rfind(kPromoted, 0) != 0;
  return {half, types.scale, keeps_sum ? types.sum : half};
}

const Value* Kernel::constant_scale(const KernelInfo* info) const {
  int is_constant = 0;
  const Value* scale = nullptr;
  check(
      api_.KernelInfoGetConstantInput_tensor(info, static_cast<size_t>(scale_index(node_.kind)), &is_constant, &scale));
  return is_constant != 0 ? scale : nullptr;
}

Problem Kernel::constant_scale_problem(const KernelInfo* info) const {
  Problem problem;
  if (const Value* scale = constant_scale(info)) {
    problem.type = types_.x;
    problem.scale_type = types_.scale;
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
  const auto input = [&](int index) {
    const Value* value = nullptr;
    check(api_.KernelContext_GetInput(context, static_cast<size_t>(index), &value));
    if (value == nullptr) {
      throw Error(node_.label + ": input " + std::to_string(index) + " is missing");
    }
    return value;
  };
  const Value* x = input(0);
  const int scale_at = scale_index(node_.kind);
  const Value* operand = scale_at == 1 ? nullptr : input(1);
  const Value* scale = input(scale_at);
  const Value* shift = has_shift(node_.kind) ? input(scale_at + 1) : nullptr;
  const Shape shape = shape_of(x, "X");
  const Shape scale_shape = scale_is_constant_ ? constant_scale_ : shape_of(scale, "scale");
  Shape operand_shape;
  Shape shift_shape;
  if (operand != nullptr) {
    operand_shape = shape_of(operand, operand_name(node_.kind));
  }
  if (shift != nullptr) {
    shift_shape = shape_of(shift, "shift");
  }
  check_shapes(node_, shape, operand == nullptr ? nullptr : &operand_shape, scale_shape,
               shift == nullptr ? nullptr : &shift_shape, types_.sum != types_.x);
  const auto output = [&](size_t index) -> void* {
    Value* value = nullptr;
    check(api_.KernelContext_GetOutput(context, index, shape.dims, shape.rank, &value));
    return value == nullptr ? nullptr : data_of(value);
  };

  Problem problem = problem_of(node_, shape, scale_shape);
  problem.type = types_.x;
  problem.scale_type = types_.scale;
  problem.sum_type = types_.sum;
  problem.x = data_of(x);
  problem.scale = data_of(scale);
  problem.shift = shift == nullptr ? nullptr : data_of(shift);
  problem.operand = operand == nullptr ? nullptr : data_of(operand);
  problem.y = output(0);
  problem.sum = node_.kind.is_add() ? output(1) : nullptr;
  if (problem.outer * problem.n * problem.inner != 0) {
    run(context, problem);
  }
}

}  // namespace rms_deploy::ort
