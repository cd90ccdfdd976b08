// JSON that cannot end the process.
//
// The library beneath aborts on a type that is not the one asked for, since
// there are no exceptions. Here every question has an answer: what is missing,
// null, or of another type is absent, and absent things can be asked further.
// Its header, which is large, stays in json.cc.
#ifndef WISP_PROCESS_JSON_H_
#define WISP_PROCESS_JSON_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nlohmann/json_fwd.hpp"
#include "process/status_macros.h"

namespace wisp {

// A value inside a Json, which must outlive it and not be changed meanwhile.
class JsonView {
 public:
  JsonView() = default;

  // False if there is no such value; null counts as none.
  bool exists() const { return value_ != nullptr; }
  bool is_object() const;
  bool is_array() const;

  // The member `key`, or nothing: `config["linux"]["cgroupsPath"]`.
  JsonView operator[](std::string_view key) const;
  // The element `index` of an array, or nothing.
  JsonView at(size_t index) const;
  // Elements of an array or members of an object; otherwise 0.
  size_t size() const;
  // All of an array; empty for anything else.
  std::vector<JsonView> elements() const;
  // All of an object, in the order of the text; empty for anything else.
  std::vector<std::pair<std::string, JsonView>> members() const;

  // The value, if it is of that type and fits. Numbers with a fraction or an
  // exponent are no integers.
  std::optional<std::string> AsString() const;
  std::optional<bool> AsBool() const;
  std::optional<int64_t> AsInt64() const;
  std::optional<uint64_t> AsUint64() const;
  std::optional<double> AsDouble() const;

  std::string StringOr(std::string_view otherwise) const;
  bool BoolOr(bool otherwise) const { return AsBool().value_or(otherwise); }
  int64_t Int64Or(int64_t otherwise) const {
    return AsInt64().value_or(otherwise);
  }
  uint64_t Uint64Or(uint64_t otherwise) const {
    return AsUint64().value_or(otherwise);
  }

  // The value as compact JSON; "null" if there is none.
  std::string Dump() const;
  // The same with a line for each value, for people.
  std::string DumpIndented() const;

 private:
  friend class Json;
  explicit JsonView(const nlohmann::ordered_json* value);
  const nlohmann::ordered_json* value_ = nullptr;
};

// Owns a document. Members keep the order of the text.
class Json {
 public:
  // One value and nothing but white space around it. As in Go, the last of
  // several members of one name counts and bytes that are no UTF-8 become
  // U+FFFD. Error: kInvalidArgument, also for nesting beyond kMaxDepth, which
  // only an attack on our stack has.
  static absl::StatusOr<Json> Parse(std::string_view text);
  static constexpr int kMaxDepth = 512;

  static Json Object();  // {}
  static Json Array();   // []

  Json(Json&& other) noexcept;
  Json& operator=(Json&& other) noexcept;
  ~Json();

  JsonView view() const;
  JsonView operator[](std::string_view key) const { return view()[key]; }

  // Adds or replaces a member. Anything that is not an object becomes one.
  void Set(std::string_view key, std::string_view value);
  void Set(std::string_view key, const char* value) {
    Set(key, std::string_view(value));
  }
  void Set(std::string_view key, bool value);
  void Set(std::string_view key, int64_t value);
  void Set(std::string_view key, uint64_t value);
  void Set(std::string_view key, int value) {
    Set(key, static_cast<int64_t>(value));
  }
  void Set(std::string_view key, uint32_t value) {
    Set(key, static_cast<uint64_t>(value));
  }
  void Set(std::string_view key, Json value);
  // Adds an element. Anything that is not an array becomes one.
  void Append(std::string_view value);
  void Append(Json value);
  void Remove(std::string_view key);

  // Compact, without a newline. Bytes that are no UTF-8 become U+FFFD.
  std::string Dump() const { return view().Dump(); }

 private:
  explicit Json(std::unique_ptr<nlohmann::ordered_json> value);
  template <typename T>
  void SetMember(std::string_view key, T&& value);

  std::unique_ptr<nlohmann::ordered_json> value_;
};

// Length of the valid UTF-8 sequence that `text` begins with, 0 if there is
// none.
size_t Utf8SequenceLength(std::string_view text);

// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD,
// as Go's decoder does it.
std::string WithValidUtf8(std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_JSON_H_
