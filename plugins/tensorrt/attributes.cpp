#include "tensorrt/attributes.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

#include "tensorrt/error.h"

namespace rms_deploy::trt {

namespace {

using contract::ElementType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

std::string number_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}

// Reads fields by name. TensorRT's parser hands over ints as int32 or int64, as its version goes; both are taken.
class Reader {
 public:
  Reader(const nvinfer1::PluginFieldCollection* fields, std::string label) : label_(std::move(label)) {
    if (fields != nullptr && fields->fields != nullptr) {
      fields_.assign(fields->fields, fields->fields + fields->nbFields);
    }
  }

  [[noreturn]] void refuse(const std::string& text) const { throw Error(label_ + ": " + text); }

  // Each field has a name that is among `names`, and no two have the same. A misspelt name must not become a default.
  void require_names(const std::vector<PluginField>& names) const {
    std::vector<std::string> seen;
    for (const PluginField& field : fields_) {
      const std::string name = field.name == nullptr ? "" : field.name;
      const auto same = [&](const PluginField& known) { return name == known.name; };
      if (std::none_of(names.begin(), names.end(), same)) {
        std::string known;
        for (const PluginField& each : names) {
          known += (known.empty() ? "" : ", ") + std::string(each.name);
        }
        refuse("field '" + name + "' is unknown; use " + known);
      }
      if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
        refuse(name + " is given twice; use one field of that name");
      }
      seen.push_back(name);
    }
  }

  // A finite number of at least zero.
  float bound(const char* name, float absent) const {
    const PluginField* field = find(name);
    if (field == nullptr) {
      return absent;
    }
    if (field->type != PluginFieldType::kFLOAT32) {
      refuse(type_error(*field, "kFLOAT32"));
    }
    require_length(*field, 1, 1);
    const float value = *static_cast<const float*>(field->data);
    if (!(std::isfinite(value) && value >= 0.0F)) {
      refuse(std::string(name) + " is " + number_text(value) + "; use a finite number, at least 0");
    }
    return value;
  }

  bool integer(const char* name, int64_t* value) const {
    const PluginField* field = find(name);
    if (field != nullptr) {
      *value = integers(*field, 1).front();
    }
    return field != nullptr;
  }

  std::vector<int64_t> integers(const char* name, int32_t most, std::vector<int64_t> absent) const {
    const PluginField* field = find(name);
    return field == nullptr ? absent : integers(*field, most);
  }

 private:
  const PluginField* find(const char* name) const {
    const auto same = [&](const PluginField& field) { return std::strcmp(field.name, name) == 0; };
    const auto found = std::find_if(fields_.begin(), fields_.end(), same);
    return found == fields_.end() ? nullptr : &*found;
  }

  std::vector<int64_t> integers(const PluginField& field, int32_t most) const {
    if (field.type != PluginFieldType::kINT64 && field.type != PluginFieldType::kINT32) {
      refuse(type_error(field, "kINT64 or kINT32"));
    }
    require_length(field, 1, most);
    if (field.type == PluginFieldType::kINT32) {
      const int32_t* data = static_cast<const int32_t*>(field.data);
      return {data, data + field.length};
    }
    const int64_t* data = static_cast<const int64_t*>(field.data);
    return {data, data + field.length};
  }

  static std::string type_error(const PluginField& field, const char* wanted) {
    return std::string(field.name) + " has PluginFieldType " + std::to_string(static_cast<int32_t>(field.type)) +
           "; use " + wanted;
  }

  void require_length(const PluginField& field, int32_t least, int32_t most) const {
    if (field.length < least || field.length > most) {
      refuse(std::string(field.name) + " has " + std::to_string(field.length) + " values; use " +
             (least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most)));
    }
    if (field.data == nullptr) {
      refuse(std::string(field.name) + " has no data");
    }
  }

  std::vector<PluginField> fields_;
  std::string label_;
};

int64_t read_scale_type(const Reader& reader) {
  int64_t value = contract::kScaleTypeDefault;
  reader.integer(contract::kScaleType, &value);
  for (const ElementType accepted : {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
    if (value == static_cast<int64_t>(accepted)) {
      return value;
    }
  }
  reader.refuse(std::string(contract::kScaleType) + " is " + std::to_string(value) +
                "; use 1 (float32), or the number of X's type: 10 (float16) or 16 (bfloat16)");
}

int64_t read_partial_size(const Reader& reader) {
  int64_t value = 0;
  if (!reader.integer(contract::kPartialSize, &value)) {
    reader.refuse(std::string(contract::kPartialSize) + " is missing; PartialRMSNorm requires it");
  }
  if (value < 1) {
    reader.refuse(std::string(contract::kPartialSize) + " is " + std::to_string(value) + "; use at least 1");
  }
  return value;
}

}  // namespace

std::vector<PluginField> field_names(Kind kind) {
  std::vector<PluginField> names{
      {contract::kAxes, nullptr, PluginFieldType::kINT64, 1},
      {contract::kEpsilon, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsEpsilon, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsMin, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kScaleType, nullptr, PluginFieldType::kINT64, 1},
  };
  if (kind == Kind::kPartialNorm) {
    names.emplace_back(contract::kPartialSize, nullptr, PluginFieldType::kINT64, 1);
  }
  return names;
}

std::vector<PluginField> fields_of(const Attributes& a) {
  const int32_t rank = static_cast<int32_t>(a.axes.size());
  std::vector<PluginField> fields{
      {contract::kAxes, a.axes.data(), PluginFieldType::kINT64, rank},
      {contract::kEpsilon, &a.epsilon, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsEpsilon, &a.rms_epsilon, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsMin, &a.rms_min, PluginFieldType::kFLOAT32, 1},
      {contract::kScaleType, &a.scale_type, PluginFieldType::kINT64, 1},
  };
  if (a.kind == Kind::kPartialNorm) {
    fields.emplace_back(contract::kPartialSize, &a.partial_size, PluginFieldType::kINT64, 1);
  }
  return fields;
}

Attributes read_attributes(Kind kind, const char* node, const nvinfer1::PluginFieldCollection* fields) {
  Attributes a;
  a.kind = kind;
  a.label = std::string(op_name(kind)) + " node '" + (node == nullptr ? "" : node) + "'";
  const Reader reader(fields, a.label);
  reader.require_names(field_names(kind));
  a.axes = reader.integers(contract::kAxes, nvinfer1::Dims::MAX_DIMS,
                           {std::begin(contract::kAxesDefault), std::end(contract::kAxesDefault)});
  a.epsilon = reader.bound(contract::kEpsilon, contract::kEpsilonDefault);
  a.rms_epsilon = reader.bound(contract::kRmsEpsilon, contract::kRmsEpsilonDefault);
  a.rms_min = reader.bound(contract::kRmsMin, contract::kRmsMinDefault);
  a.scale_type = read_scale_type(reader);
  a.partial_size = kind == Kind::kPartialNorm ? read_partial_size(reader) : 0;
  return a;
}

std::string attributes_text(const Attributes& a) {
  std::string text = std::string(contract::kAxes) + "=" + list_text(a.axes.data(), a.axes.size());
  text += std::string(" ") + contract::kEpsilon + "=" + number_text(a.epsilon);
  text += std::string(" ") + contract::kRmsEpsilon + "=" + number_text(a.rms_epsilon);
  text += std::string(" ") + contract::kRmsMin + "=" + number_text(a.rms_min);
  text += std::string(" ") + contract::kScaleType + "=" + std::to_string(a.scale_type);
  if (a.kind == Kind::kPartialNorm) {
    text += std::string(" ") + contract::kPartialSize + "=" + std::to_string(a.partial_size);
  }
  return text;
}

}  // namespace rms_deploy::trt
