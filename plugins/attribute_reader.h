// The attributes of a norm's node, read alike for every runtime: their defaults, what is accepted, and the text that
// refuses anything else. A runtime's shell derives from AttributeReader and says how its host hands over a value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node.h"

namespace rms_deploy {

class AttributeReader {
 public:
  virtual ~AttributeReader() = default;

  // Throws Error, which names the node, the attribute, its value and what is accepted.
  Node read() const;

 protected:
  // `max_rank` is the highest rank of a tensor in the host.
  AttributeReader(const Kind& kind, const std::string& node_name, size_t max_rank);

  [[noreturn]] void refuse(const std::string& text) const;

  // Refuses a number of values that is not 1 to `most`.
  void require_count(const std::string& name, int64_t count, size_t most) const;

 private:
  // Each returns nothing for an attribute that the node does not have, and refuses one of another type.
  virtual std::optional<float> real(const char* name) const = 0;
  virtual std::optional<int64_t> integer(const char* name) const = 0;
  virtual std::optional<std::vector<int64_t>> integers(const char* name, size_t most) const = 0;

  std::vector<int64_t> axes() const;
  float bound(const char* name, float otherwise) const;
  int64_t type(const char* name, int64_t otherwise) const;
  int64_t partial_size() const;
  float y_scale() const;
  contract::QuantizedType output_dtype() const;

  // The value of an attribute that the op requires.
  template <class T>
  T required(const char* name, std::optional<T> value) const {
    if (!value) {
      refuse(std::string(name) + " is missing; " + kind_.name + " requires it");
    }
    return *value;
  }

  const Kind kind_;
  const std::string label_;
  const size_t max_rank_;
};

}  // namespace rms_deploy
