#include "attribute_reader.h"

#include <cmath>
#include <cstdio>
#include <iterator>

namespace rms_deploy {

namespace {

std::string number_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
  return text;
}

}  // namespace

AttributeReader::AttributeReader(const Kind& kind, const std::string& node_name, size_t max_rank)
    : kind_(kind), label_(std::string(kind.name) + " node '" + node_name + "'"), max_rank_(max_rank) {}

void AttributeReader::refuse(const std::string& text) const { throw Error(label_ + ": " + text); }

void AttributeReader::require_count(const std::string& name, int64_t count, size_t most) const {
  if (count < 1 || count > static_cast<int64_t>(most)) {
    refuse(name + " has " + std::to_string(count) + " values; use 1" +
           (most == 1 ? "" : " to " + std::to_string(most)));
  }
}

Node AttributeReader::read() const {
  Node node;
  node.kind = kind_;
  node.label = label_;
  node.axes = axes();
  node.epsilon = bound(contract::kEpsilon, contract::kEpsilonDefault);
  node.rms_epsilon = bound(contract::kRmsEpsilon, contract::kRmsEpsilonDefault);
  node.rms_min = bound(contract::kRmsMin, contract::kRmsMinDefault);
  node.scale_type = type(contract::kScaleType, contract::kScaleTypeDefault);
  node.partial_size = kind_.is_partial ? partial_size() : 0;
  node.y_scale = 0.0F;
  node.output_dtype = contract::QuantizedType::kNone;
  node.precision = contract::kPrecisionDefault;
  if (kind_.is_quantized()) {
    node.y_scale = y_scale();
    node.output_dtype = output_dtype();
    node.precision = type(contract::kPrecision, contract::kPrecisionDefault);
  }
  return node;
}

std::vector<int64_t> AttributeReader::axes() const {
  const std::optional<std::vector<int64_t>> values = integers(contract::kAxes, max_rank_);
  return values.value_or(std::vector<int64_t>(std::begin(contract::kAxesDefault), std::end(contract::kAxesDefault)));
}

// A finite number of at least zero.
float AttributeReader::bound(const char* name, float otherwise) const {
  const float value = real(name).value_or(otherwise);
  if (!(std::isfinite(value) && value >= 0.0F)) {
    refuse(std::string(name) + " is " + number_text(value) + "; use a finite number, at least 0");
  }
  return value;
}

// Which of the three fits a node depends on the type of X: see check_named_types.
int64_t AttributeReader::type(const char* name, int64_t otherwise) const {
  const int64_t value = integer(name).value_or(otherwise);
  for (const ElementType accepted : {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
    if (value == static_cast<int64_t>(accepted)) {
      return value;
    }
  }
  refuse(std::string(name) + " is " + std::to_string(value) +
         "; use 1 (float32), or 10 (float16) or 16 (bfloat16) if X holds such values");
}

int64_t AttributeReader::partial_size() const {
  const int64_t value = required(contract::kPartialSize, integer(contract::kPartialSize));
  if (value < 1) {
    refuse(std::string(contract::kPartialSize) + " is " + std::to_string(value) + "; use at least 1");
  }
  return value;
}

float AttributeReader::y_scale() const {
  const float value = required(contract::kYScale, real(contract::kYScale));
  if (!(std::isfinite(value) && value > 0.0F)) {
    refuse(std::string(contract::kYScale) + " is " + number_text(value) + "; use a finite number above 0");
  }
  return value;
}

contract::QuantizedType AttributeReader::output_dtype() const {
  const int64_t value = required(contract::kOutputDtype, integer(contract::kOutputDtype));
  for (const contract::QuantizedType accepted :
       {contract::QuantizedType::kInt8, contract::QuantizedType::kFloat8E4M3FN}) {
    if (value == static_cast<int64_t>(accepted)) {
      return accepted;
    }
  }
  refuse(std::string(contract::kOutputDtype) + " is " + std::to_string(value) + "; use 3 (int8) or 17 (float8e4m3fn)");
}

}  // namespace rms_deploy
