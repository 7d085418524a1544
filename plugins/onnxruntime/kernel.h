// One node: its attributes, and the call that turns ONNX Runtime's values into a kernel Problem.
#pragma once

#include "kernels/cpu/dispatch.h"
#include "onnxruntime/attributes.h"

namespace rms_deploy::ort {

struct Shape {
  size_t rank;
  int64_t dims[kMaxRank];

  int64_t size() const;
};

class Kernel {
 public:
  // Throws Error for a wrong attribute.
  Kernel(const Api& api, const KernelInfo* info, Kind kind, contract::ElementType type,
         contract::ElementType scale_type, cpu::NormFunction norm);

  // Throws Error for wrong shapes.
  void compute(KernelContext* context) const;

 private:
  Shape shape_of(const Value* value, const char* name) const;
  void check_scale(const Shape& scale, const Shape& x, const View& view) const;
  void run(KernelContext* context, const cpu::Problem& problem) const;

  const Api& api_;
  Kind kind_;
  Attributes attributes_;
  cpu::NormFunction norm_;
  cpu::Problem template_;    // all that does not change from call to call
  bool is_float32_ = false;  // the memory of all tensors but scale
  bool scale_is_constant_ = false;
  Shape constant_scale_{};
};

}  // namespace rms_deploy::ort
