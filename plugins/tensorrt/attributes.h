// The attributes of a norm: read from a plugin's fields, each held against the contract, and written back to fields.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

enum class Kind { kNorm, kPartialNorm, kAddNorm };

// Every member that is serialised has exactly the C++ type of its PluginFieldType.
struct Attributes {
  Kind kind;
  std::string node;           // "RMSNorm node 'name'", for messages
  std::vector<int64_t> axes;  // as given
  float epsilon;
  float rms_epsilon;
  float rms_min;
  int64_t scale_type;    // an ElementType
  int64_t partial_size;  // 0: all
};

const char* op_name(Kind kind);

// The fields that a norm of this kind takes, without values.
std::vector<nvinfer1::PluginField> field_names(Kind kind);

// The fields of `attributes`, which point into it.
std::vector<nvinfer1::PluginField> fields_of(const Attributes& attributes);

// Throws Error, which names the node, the field, its value and what is accepted.
Attributes read_attributes(Kind kind, const char* node, const nvinfer1::PluginFieldCollection* fields);

// All that decides what a kernel computes, as one line.
std::string attributes_text(const Attributes& attributes);

std::string list_text(const int64_t* values, size_t size);

}  // namespace rms_deploy::trt
