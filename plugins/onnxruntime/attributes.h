// The attributes of a node, read once when its kernel is created.
#pragma once

#include "node.h"
#include "onnxruntime/api.h"

namespace rms_deploy::ort {

// `type` is that of X. Throws Error for a wrong attribute.
Node read_attributes(const Api& api, const KernelInfo* info, const Kind& kind, ElementType type);

// Empty if the node has no such output.
std::string output_name(const Api& api, const KernelInfo* info, size_t index);

}  // namespace rms_deploy::ort
