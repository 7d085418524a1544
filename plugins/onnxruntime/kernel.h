// One node: its attributes, and the call that turns ONNX Runtime's values into a kernel Problem.
#pragma once

#include "onnxruntime/attributes.h"

namespace rms_deploy::ort {

struct Types {
  ElementType x;      // of X, Z and Y
  ElementType scale;  // of scale and shift
  ElementType sum;    // of R and Sum; that of X where there are none
};

// What is the same on every execution provider; `run` is the provider's.
class Kernel {
 public:
  // `types` are those in memory. Throws Error for a wrong attribute.
  Kernel(const Api& api, const KernelInfo* info, const Kind& kind, const Types& types);
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Throws Error for wrong shapes.
  void compute(KernelContext* context) const;

  const Api& api() const { return api_; }

 protected:
  const Node& node() const { return node_; }

  // Types, rounding, n and scale of the node's problems, if its scale is constant; `scale` is null if it is not. For a
  // constructor, which has `info`: ONNX Runtime does not promise that the pointer stays valid.
  Problem constant_scale_problem(const KernelInfo* info) const;

  // ONNX Runtime computes a 16-bit node in float32, and X holds 16-bit values: see README.md.
  bool is_promoted() const { return is_promoted_; }

 private:
  // Computes a problem that is complete and not empty.
  virtual void run(KernelContext* context, const Problem& problem) const = 0;

  // The types of the values, where X is promoted.
  Types promoted_types(const KernelInfo* info, const Types& types) const;

  const Value* constant_scale(const KernelInfo* info) const;  // null if it is not constant
  Shape shape_of(const Value* value, const char* name) const;
  void* data_of(const Value* value) const;

  const Api& api_;
  Node node_;
  bool is_promoted_;
  Types types_;  // of the values
  bool scale_is_constant_ = false;
  Shape constant_scale_{};
};

}  // namespace rms_deploy::ort
