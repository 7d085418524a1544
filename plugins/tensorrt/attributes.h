// The attributes of a norm as fields of a plugin: read from them, and written back to them.
#pragma once

#include <string>
#include <vector>

#include "node.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

// The fields that a norm of this kind takes, without values.
std::vector<nvinfer1::PluginField> field_names(const Kind& kind);

// The fields of `node`, which point into it: a member has exactly the C++ type of its field's PluginFieldType.
std::vector<nvinfer1::PluginField> fields_of(const Node& node);

// Throws Error for a wrong field.
Node read_attributes(const Kind& kind, const char* name, const nvinfer1::PluginFieldCollection* fields);

// All that decides what a kernel computes, as one line.
std::string attributes_text(const Node& node);

}  // namespace rms_deploy::trt
