// The attributes of a norm: read from a plugin's fields, each held against the contract, and written back to fields.
#pragma once

#include <string>
#include <vector>

#include "node.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

// Every member that is serialised has exactly the C++ type of its PluginFieldType.
struct Attributes : Node {
  int64_t scale_type;  // an ElementType
};

// The fields that a norm of this kind takes, without values.
std::vector<nvinfer1::PluginField> field_names(Kind kind);

// The fields of `attributes`, which point into it.
std::vector<nvinfer1::PluginField> fields_of(const Attributes& attributes);

// Throws Error, which names the node, the field, its value and what is accepted.
Attributes read_attributes(Kind kind, const char* node, const nvinfer1::PluginFieldCollection* fields);

// All that decides what a kernel computes, as one line.
std::string attributes_text(const Attributes& attributes);

}  // namespace rms_deploy::trt
