// The library's one exported function.
#include <cstdio>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "onnxruntime/error.h"
#include "onnxruntime/op.h"

namespace rms_deploy::ort {

namespace {

std::vector<ElementType> own_and_float32(ElementType type) {
  return type == ElementType::kFloat32 ? std::vector{type} : std::vector{type, ElementType::kFloat32};
}

// The ops and their domain, for one onnxruntime of the process (there may be several, each with its own table).
// ONNX Runtime refers to both for as long as a session lives, so they are kept for the life of the process.
class Registration {
 public:
  Registration(const void* table, bool has_later)
      : table_(table), api_(table, has_later), providers_(rms_deploy::ort::providers()) {
    CustomOpDomain* domain = nullptr;
    check(api_.CreateCustomOpDomain(contract::kDomain, &domain));
    domain_ = std::unique_ptr<CustomOpDomain, void (*)(CustomOpDomain*)>(domain, api_.ReleaseCustomOpDomain);
    for (const Provider& provider : providers_) {
      for (const Kind& kind : contract::kKinds) {
        if (!kind.is_quantized()) {  // the function body of one that is runs the op without that
          add(provider, kind);
        }
      }
    }
  }

  const void* table() const { return table_; }
  const Api& api() const { return api_; }
  CustomOpDomain* domain() const { return domain_.get(); }

 private:
  void add(const Provider& provider, const Kind& kind) {
    for (const ElementType x : {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16}) {
      for (const ElementType scale : own_and_float32(x)) {
        for (const ElementType sum : kind.is_add() ? own_and_float32(x) : std::vector{x}) {
          ops_.emplace_back(api_, provider, kind, Types{x, scale, sum});
          check(api_.CustomOpDomain_Add(domain_.get(), &ops_.back()));
        }
      }
    }
  }

  const void* table_;
  Api api_;
  std::vector<Provider> providers_;
  std::deque<Op> ops_;  // ONNX Runtime keeps their addresses
  std::unique_ptr<CustomOpDomain, void (*)(CustomOpDomain*)> domain_{nullptr, nullptr};
};

const Registration& registration_for(const void* table, bool has_later) {
  static std::mutex mutex;
  // Never destroyed: at the end of the process onnxruntime may already be gone.
  static auto& registrations = *new std::list<Registration>;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Registration& registration : registrations) {
    if (registration.table() == table) {
      return registration;
    }
  }
  return registrations.emplace_back(table, has_later);
}

// Read off the version's text, because GetApi writes to stderr when it is asked for a version that it does not have.
bool has_later_version(const ApiBase* base) {
  unsigned major = 0;
  unsigned minor = 0;
  return std::sscanf(base->GetVersionString(), "%u.%u", &major, &minor) == 2 && major == 1 && minor >= kLaterVersion;
}

Status* version_error(const ApiBase* base) {
  const void* oldest = base->GetApi(1);
  if (oldest == nullptr) {
    return nullptr;  // no table, so no way to say anything; the model's load then names the unknown op
  }
  const std::string message =
      std::string("rms_deploy: needs onnxruntime 1.18 or newer; this is ") + base->GetVersionString();
  // CreateStatus is the first function of every version's table.
  return (*static_cast<decltype(Api::CreateStatus) const*>(oldest))(kNotImplemented, message.c_str());
}

}  // namespace

}  // namespace rms_deploy::ort

extern "C" __attribute__((visibility("default"))) rms_deploy::ort::Status* RegisterCustomOps(
    rms_deploy::ort::SessionOptions* options, const rms_deploy::ort::ApiBase* base) {
  using namespace rms_deploy::ort;
  const bool has_later = has_later_version(base);
  const void* table = base->GetApi(has_later ? kLaterVersion : kVersion);
  if (table == nullptr) {
    return version_error(base);
  }
  return guarded(Api(table), [&] {
    const Registration& registration = registration_for(table, has_later);
    check(registration.api().AddCustomOpDomain(options, registration.domain()));
  });
}
