#include "onnxruntime/kernel.h"

#include <algorithm>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

int64_t Shape::size() const {
  int64_t product = 1;
  for (size_t i = 0; i < rank; ++i) {
    product *= dims[i];
  }
  return product;
}

Kernel::Kernel(const Api& api, const KernelInfo* info, Kind kind, contract::ElementType type,
               contract::ElementType scale_type)
    : api_(api), kind_(kind), attributes_(read_attributes(api, info, kind, type)) {
  template_.type = attributes_.rounding;
  template_.scale_type = scale_type;
  template_.round_before_scale = attributes_.round_before_scale;
  template_.epsilon = attributes_.epsilon;
  template_.rms_epsilon = attributes_.rms_epsilon;
  template_.rms_min = attributes_.rms_min;
  int is_constant = 0;
  const Value* scale = nullptr;
  check(api.KernelInfoGetConstantInput_tensor(info, kind == Kind::kAddNorm ? 2 : 1, &is_constant, &scale));
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
    throw Error(attributes_.node + ": " + name + " has rank " + std::to_string(shape.rank) + "; use at most " +
                std::to_string(kMaxRank));
  }
  return shape;
}

void Kernel::check_scale(const Shape& scale, const Shape& x, const View& view) const {
  const int64_t size = scale.size();
  if (size != 1 && size != view.n) {
    throw Error(attributes_.node + ": scale has " + std::to_string(size) + " elements; use 1 or " +
                std::to_string(view.n));
  }
  bool fits = scale.rank <= x.rank;
  for (size_t i = 0; fits && size != 1 && i < scale.rank; ++i) {
    const size_t axis = x.rank - scale.rank + i;
    fits = scale.dims[i] == (axis >= view.first && axis < view.last ? x.dims[axis] : 1);
  }
  if (!fits) {
    throw Error(attributes_.node + ": scale has shape " + shape_text(scale.dims, scale.rank) +
                "; use one that broadcasts to X " + shape_text(x.dims, x.rank) +
                " from the right, with 1 outside the axes");
  }
}

void Kernel::compute(KernelContext* context) const {
  const bool add = kind_ == Kind::kAddNorm;
  const auto input = [&](size_t index) {
    const Value* value = nullptr;
    check(api_.KernelContext_GetInput(context, index, &value));
    if (value == nullptr) {
      throw Error(attributes_.node + ": input " + std::to_string(index) + " is missing");
    }
    return value;
  };
  const auto data = [&](const Value* value) {
    void* pointer = nullptr;
    check(api_.GetTensorMutableData(const_cast<Value*>(value), &pointer));
    return pointer;
  };
  const Value* x = input(0);
  const Value* scale = input(add ? 2 : 1);
  const Shape shape = shape_of(x, "X");
  const View view = view_of(attributes_, shape.dims, shape.rank);
  const Shape scale_shape = scale_is_constant_ ? constant_scale_ : shape_of(scale, "scale");
  check_scale(scale_shape, shape, view);
  if (attributes_.partial_size > view.n) {
    throw Error(attributes_.node + ": partial_size is " + std::to_string(attributes_.partial_size) + "; use 1 to " +
                std::to_string(view.n) + ", the number of normalised elements");
  }

  Problem problem = template_;
  problem.x = data(x);
  problem.scale = data(scale);
  problem.outer = view.outer;
  problem.n = view.n;
  problem.inner = view.inner;
  problem.statistics_size = attributes_.partial_size != 0 ? attributes_.partial_size : view.n;
  problem.scalar_scale = scale_shape.size() == 1;
  if (add) {
    const Value* residual = input(1);
    const Shape residual_shape = shape_of(residual, "R");
    if (residual_shape.rank != shape.rank || !std::equal(shape.dims, shape.dims + shape.rank, residual_shape.dims)) {
      throw Error(attributes_.node + ": R has shape " + shape_text(residual_shape.dims, residual_shape.rank) +
                  "; use that of X, " + shape_text(shape.dims, shape.rank));
    }
    problem.residual = data(residual);
  }
  const auto output = [&](size_t index) -> void* {
    Value* value = nullptr;
    check(api_.KernelContext_GetOutput(context, index, shape.dims, shape.rank, &value));
    return value == nullptr ? nullptr : data(value);
  };
  problem.y = output(0);
  if (add) {
    problem.sum = output(1);
  }
  if (problem.outer * problem.n * problem.inner != 0) {
    run(context, problem);
  }
}

}  // namespace rms_deploy::ort
