#include "tensorrt/attributes.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "attribute_reader.h"

namespace rms_deploy::trt {

namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

// Enough digits to tell any two float32 apart.
std::string exact_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}

class Reader final : public AttributeReader {
 public:
  Reader(const Kind& kind, const char* node, const nvinfer1::PluginFieldCollection* fields)
      : AttributeReader(kind, node == nullptr ? "" : node, nvinfer1::Dims::MAX_DIMS) {
    if (fields != nullptr && fields->fields != nullptr) {
      fields_.assign(fields->fields, fields->fields + fields->nbFields);
    }
    require_names(field_names(kind));
  }

 private:
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

  std::optional<float> real(const char* name) const override {
    const PluginField* field = find(name);
    if (field == nullptr) {
      return std::nullopt;
    }
    if (field->type != PluginFieldType::kFLOAT32) {
      refuse_type(*field, "kFLOAT32");
    }
    require_values(*field, 1);
    return *static_cast<const float*>(field->data);
  }

  std::optional<int64_t> integer(const char* name) const override {
    const std::optional<std::vector<int64_t>> values = integers(name, 1);
    return values ? std::optional(values->front()) : std::nullopt;
  }

  // TensorRT's parser hands over ints as int64 or int32, depending on its version.
  std::optional<std::vector<int64_t>> integers(const char* name, size_t most) const override {
    const PluginField* field = find(name);
    if (field == nullptr) {
      return std::nullopt;
    }
    if (field->type != PluginFieldType::kINT64 && field->type != PluginFieldType::kINT32) {
      refuse_type(*field, "kINT64 or kINT32");
    }
    require_values(*field, most);
    if (field->type == PluginFieldType::kINT32) {
      const int32_t* data = static_cast<const int32_t*>(field->data);
      return std::vector<int64_t>(data, data + field->length);
    }
    const int64_t* data = static_cast<const int64_t*>(field->data);
    return std::vector<int64_t>(data, data + field->length);
  }

  const PluginField* find(const char* name) const {
    const auto same = [&](const PluginField& field) { return std::strcmp(field.name, name) == 0; };
    const auto found = std::find_if(fields_.begin(), fields_.end(), same);
    return found == fields_.end() ? nullptr : &*found;
  }

  [[noreturn]] void refuse_type(const PluginField& field, const char* wanted) const {
    refuse(std::string(field.name) + " has PluginFieldType " + std::to_string(static_cast<int32_t>(field.type)) +
           "; use " + wanted);
  }

  void require_values(const PluginField& field, size_t most) const {
    require_count(field.name, field.length, most);
    if (field.data == nullptr) {
      refuse(std::string(field.name) + " has no data; use a pointer to its values");
    }
  }

  std::vector<PluginField> fields_;
};

}  // namespace

std::vector<PluginField> field_names(const Kind& kind) {
  std::vector<PluginField> names{
      {contract::kAxes, nullptr, PluginFieldType::kINT64, 1},
      {contract::kEpsilon, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsEpsilon, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsMin, nullptr, PluginFieldType::kFLOAT32, 1},
      {contract::kScaleType, nullptr, PluginFieldType::kINT64, 1},
  };
  if (kind.is_partial) {
    names.emplace_back(contract::kPartialSize, nullptr, PluginFieldType::kINT64, 1);
  }
  if (kind.is_quantized()) {
    names.emplace_back(contract::kYScale, nullptr, PluginFieldType::kFLOAT32, 1);
    names.emplace_back(contract::kOutputDtype, nullptr, PluginFieldType::kINT64, 1);
    names.emplace_back(contract::kPrecision, nullptr, PluginFieldType::kINT64, 1);
  }
  return names;
}

std::vector<PluginField> fields_of(const Node& node) {
  const int32_t rank = static_cast<int32_t>(node.axes.size());
  std::vector<PluginField> fields{
      {contract::kAxes, node.axes.data(), PluginFieldType::kINT64, rank},
      {contract::kEpsilon, &node.epsilon, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsEpsilon, &node.rms_epsilon, PluginFieldType::kFLOAT32, 1},
      {contract::kRmsMin, &node.rms_min, PluginFieldType::kFLOAT32, 1},
      {contract::kScaleType, &node.scale_type, PluginFieldType::kINT64, 1},
  };
  if (node.kind.is_partial) {
    fields.emplace_back(contract::kPartialSize, &node.partial_size, PluginFieldType::kINT64, 1);
  }
  if (node.kind.is_quantized()) {
    static_assert(sizeof node.output_dtype == sizeof(int32_t));
    fields.emplace_back(contract::kYScale, &node.y_scale, PluginFieldType::kFLOAT32, 1);
    fields.emplace_back(contract::kOutputDtype, &node.output_dtype, PluginFieldType::kINT32, 1);
    fields.emplace_back(contract::kPrecision, &node.precision, PluginFieldType::kINT64, 1);
  }
  return fields;
}

Node read_attributes(const Kind& kind, const char* name, const nvinfer1::PluginFieldCollection* fields) {
  return Reader(kind, name, fields).read();
}

std::string attributes_text(const Node& node) {
  std::string text = std::string(contract::kAxes) + "=" + list_text(node.axes.data(), node.axes.size());
  text += std::string(" ") + contract::kEpsilon + "=" + exact_text(node.epsilon);
  text += std::string(" ") + contract::kRmsEpsilon + "=" + exact_text(node.rms_epsilon);
  text += std::string(" ") + contract::kRmsMin + "=" + exact_text(node.rms_min);
  text += std::string(" ") + contract::kScaleType + "=" + std::to_string(node.scale_type);
  if (node.kind.is_partial) {
    text += std::string(" ") + contract::kPartialSize + "=" + std::to_string(node.partial_size);
  }
  if (node.kind.is_quantized()) {
    text += std::string(" ") + contract::kYScale + "=" + exact_text(node.y_scale);
    text += std::string(" ") + contract::kOutputDtype + "=" + std::to_string(static_cast<int32_t>(node.output_dtype));
    text += std::string(" ") + contract::kPrecision + "=" + std::to_string(node.precision);
  }
  return text;
}

}  // namespace rms_deploy::trt
