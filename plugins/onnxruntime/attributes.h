// The attributes of a node, read once when its kernel is created, and held against the contract.
#pragma once

#include "node.h"
#include "onnxruntime/api.h"

namespace rms_deploy::ort {

struct Attributes : Node {
  bool round_before_scale;
  contract::ElementType rounding;  // the type that all is rounded to: that of X, or a 16-bit type in a float32 X
};

// Throws Error, which names the node, the attribute, its value and what is accepted.
Attributes read_attributes(const Api& api, const KernelInfo* info, Kind kind, contract::ElementType type);

}  // namespace rms_deploy::ort
