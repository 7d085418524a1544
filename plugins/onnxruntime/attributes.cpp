#include "onnxruntime/attributes.h"

#include <cmath>
#include <cstdio>
#include <iterator>
#include <utility>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

namespace {

using contract::ElementType;

// True if `status` is no error; releases it if it is one.
bool succeeded(const Api& api, Status* status) {
  if (status != nullptr) {
    api.ReleaseStatus(status);
  }
  return status == nullptr;
}

// ONNX Runtime reports a missing attribute and one of another type alike. A node that says `epsilon = 1` must not get
// the default, so the other types are tried by name.
bool exists_with_any_type(const Api& api, const KernelInfo* info, const char* name) {
  float real = 0.0F;
  int64_t integer = 0;
  size_t size = 0;
  return succeeded(api, api.KernelInfoGetAttribute_float(info, name, &real)) ||
         succeeded(api, api.KernelInfoGetAttribute_int64(info, name, &integer)) ||
         succeeded(api, api.KernelInfoGetAttributeArray_int64(info, name, nullptr, &size)) ||
         succeeded(api, api.KernelInfoGetAttributeArray_float(info, name, nullptr, &size)) ||
         succeeded(api, api.KernelInfoGetAttribute_string(info, name, nullptr, &size));
}

std::string number_text(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
  return text;
}

const char* type_name(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kBFloat16:
      return "bfloat16";
  }
  return "unknown";
}

class Reader {
 public:
  Reader(const Api& api, const KernelInfo* info, std::string label)
      : api_(api), info_(info), label_(std::move(label)) {}

  [[noreturn]] void refuse(const std::string& text) const { throw Error(label_ + ": " + text); }

  // A finite number of at least zero.
  float bound(const char* name, float absent) const {
    float value = absent;
    if (!succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &value))) {
      require_absent(name, "a float");
      return absent;
    }
    if (!(std::isfinite(value) && value >= 0.0F)) {
      refuse(std::string(name) + " is " + number_text(value) + "; use a finite number, at least 0");
    }
    return value;
  }

  bool integer(const char* name, int64_t* value) const {
    if (!succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, value))) {
      require_absent(name, "an int");
      return false;
    }
    return true;
  }

  std::vector<int64_t> integers(const char* name, std::vector<int64_t> absent) const {
    size_t size = 0;
    if (!succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size))) {
      require_absent(name, "a list of ints");
      return absent;
    }
    std::vector<int64_t> values(size);
    if (size == 0) {  // also what ONNX Runtime says of a single int
      int64_t single = 0;
      const bool is_single = succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &single));
      refuse(std::string(name) +
             (is_single ? " has the wrong attribute type; use a list of ints" : " is empty; use at least one"));
    }
    check(api_.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size));
    return values;
  }

 private:
  void require_absent(const char* name, const char* wanted) const {
    if (exists_with_any_type(api_, info_, name)) {
      refuse(std::string(name) + " has the wrong attribute type; use " + wanted);
    }
  }

  const Api& api_;
  const KernelInfo* info_;
  std::string label_;
};

std::string label_of(const Api& api, const KernelInfo* info, Kind kind) {
  size_t size = 0;
  std::string name;
  if (succeeded(api, api.KernelInfo_GetNodeName(info, nullptr, &size)) && size > 1) {
    name.resize(size);
    check(api.KernelInfo_GetNodeName(info, name.data(), &size));
    name.resize(size - 1);
  }
  return std::string(op_name(kind)) + " node '" + name + "'";
}

// A 16-bit scale_type with a float32 X is a node that ONNX Runtime promoted: see README.md.
ElementType read_scale_type(const Reader& reader, ElementType type) {
  int64_t value = contract::kScaleTypeDefault;
  reader.integer(contract::kScaleType, &value);
  for (const ElementType accepted : {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
    if (value == static_cast<int64_t>(accepted) &&
        (accepted == type || accepted == ElementType::kFloat32 || type == ElementType::kFloat32)) {
      return accepted;
    }
  }
  const std::string of_x = type == ElementType::kFloat32 ? ", or 10 (float16) or 16 (bfloat16) if X holds such values"
                                                         : " or " + std::to_string(static_cast<int32_t>(type)) + " (" +
                                                               type_name(type) + ", the type of X)";
  reader.refuse(std::string(contract::kScaleType) + " is " + std::to_string(value) + "; use 1 (float32)" + of_x);
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

Attributes read_attributes(const Api& api, const KernelInfo* info, Kind kind, ElementType type) {
  Attributes a;
  a.kind = kind;
  a.label = label_of(api, info, kind);
  const Reader reader(api, info, a.label);
  a.axes = reader.integers(contract::kAxes, {std::begin(contract::kAxesDefault), std::end(contract::kAxesDefault)});
  if (a.axes.size() > kMaxRank) {
    reader.refuse("axes has " + std::to_string(a.axes.size()) + " entries; use at most " + std::to_string(kMaxRank));
  }
  a.epsilon = reader.bound(contract::kEpsilon, contract::kEpsilonDefault);
  a.rms_epsilon = reader.bound(contract::kRmsEpsilon, contract::kRmsEpsilonDefault);
  a.rms_min = reader.bound(contract::kRmsMin, contract::kRmsMinDefault);
  const ElementType scale_type = read_scale_type(reader, type);
  a.round_before_scale = scale_type != ElementType::kFloat32;
  a.rounding = a.round_before_scale ? scale_type : type;
  a.partial_size = kind == Kind::kPartialNorm ? read_partial_size(reader) : 0;
  return a;
}

}  // namespace rms_deploy::ort
