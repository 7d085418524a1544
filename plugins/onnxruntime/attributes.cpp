#include "onnxruntime/attributes.h"

#include "attribute_reader.h"
#include "onnxruntime/error.h"

namespace rms_deploy::ort {

namespace {

// True if `status` is no error; releases it if it is one.
bool succeeded(const Api& api, Status* status) {
  if (status != nullptr) {
    api.ReleaseStatus(status);
  }
  return status == nullptr;
}

// The text that `get(buffer, size)` writes; empty if it fails.
template <class Get>
std::string text_of(const Api& api, const Get& get) {
  size_t size = 0;  // with the zero at the end
  std::string text;
  if (succeeded(api, get(nullptr, &size)) && size > 1) {
    text.resize(size);
    check(get(text.data(), &size));
    text.resize(size - 1);
  }
  return text;
}

std::string node_name(const Api& api, const KernelInfo* info) {
  return text_of(api, [&](char* text, size_t* size) { return api.KernelInfo_GetNodeName(info, text, size); });
}

class Reader final : public AttributeReader {
 public:
  Reader(const Api& api, const KernelInfo* info, const Kind& kind)
      : AttributeReader(kind, node_name(api, info), kMaxRank), api_(api), info_(info) {}

 private:
  std::optional<float> real(const char* name) const override {
    float value = 0.0F;
    if (succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &value))) {
      return value;
    }
    return absent(name, "a float");
  }

  std::optional<int64_t> integer(const char* name) const override {
    int64_t value = 0;
    if (succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &value))) {
      return value;
    }
    return absent(name, "an int");
  }

  std::optional<std::vector<int64_t>> integers(const char* name, size_t most) const override {
    constexpr const char* kWanted = "a list of ints";
    size_t size = 0;
    if (!succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size))) {
      return absent(name, kWanted);
    }
    int64_t single = 0;  // ONNX Runtime takes a single int for an empty list
    if (size == 0 && succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &single))) {
      refuse_type(name, kWanted);
    }
    require_count(name, static_cast<int64_t>(size), most);
    std::vector<int64_t> values(size);
    check(api_.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size));
    return values;
  }

  [[noreturn]] void refuse_type(const char* name, const char* wanted) const {
    refuse(std::string(name) + " has the wrong attribute type; use " + wanted);
  }

  // ONNX Runtime reports a missing attribute and one of another type alike. A node that says `epsilon = 1` must not get
  // the default, so every type is tried.
  std::nullopt_t absent(const char* name, const char* wanted) const {
    float real = 0.0F;
    int64_t integer = 0;
    size_t size = 0;
    if (succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &real)) ||
        succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &integer)) ||
        succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size)) ||
        succeeded(api_, api_.KernelInfoGetAttributeArray_float(info_, name, nullptr, &size)) ||
        succeeded(api_, api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
      refuse_type(name, wanted);
    }
    return std::nullopt;
  }

  const Api& api_;
  const KernelInfo* info_;
};

}  // namespace

Node read_attributes(const Api& api, const KernelInfo* info, const Kind& kind, ElementType type) {
  const Node node = Reader(api, info, kind).read();
  if (type != ElementType::kFloat32) {  // a float32 X may hold the values of a promoted node: see README.md
    check_named_types(node, type);
  }
  return node;
}

std::string output_name(const Api& api, const KernelInfo* info, size_t index) {
  return text_of(api, [&](char* text, size_t* size) { return api.KernelInfo_GetOutputName(info, index, text, size); });
}

}  // namespace rms_deploy::ort
