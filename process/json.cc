#include "process/json.h"

#include <limits>

#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace wisp {
namespace {

using Value = nlohmann::ordered_json;

// Nesting of the text, strings left out. The parser itself does not recurse,
// but printing does.
int Depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest) deepest = depth;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

size_t Utf8SequenceLength(std::string_view text) {
  const auto byte = [&text](size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  if (text.empty()) return 0;
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t length = 0;
  // The bounds of the second byte exclude overlong forms, surrogates and what
  // is beyond U+10FFFF.
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (text.size() < length || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return length;
}

std::string WithValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8SequenceLength(text);
    if (length == 0) {
      valid += "\xEF\xBF\xBD";
      text.remove_prefix(1);
    } else {
      valid += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return valid;
}

JsonView::JsonView(const Value* value)
    : value_(value != nullptr && value->is_null() ? nullptr : value) {}

bool JsonView::is_object() const { return exists() && value_->is_object(); }
bool JsonView::is_array() const { return exists() && value_->is_array(); }

JsonView JsonView::operator[](std::string_view key) const {
  if (!is_object()) return {};
  const auto found = value_->find(key);
  if (found == value_->end()) return {};
  return JsonView(&*found);
}

JsonView JsonView::at(size_t index) const {
  if (!is_array() || index >= value_->size()) return {};
  return JsonView(&(*value_)[index]);
}

size_t JsonView::size() const {
  return is_array() || is_object() ? value_->size() : 0;
}

std::vector<JsonView> JsonView::elements() const {
  std::vector<JsonView> all;
  if (!is_array()) return all;
  all.reserve(value_->size());
  for (const Value& element : *value_) all.push_back(JsonView(&element));
  return all;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  std::vector<std::pair<std::string, JsonView>> all;
  if (!is_object()) return all;
  all.reserve(value_->size());
  for (auto it = value_->begin(); it != value_->end(); ++it) {
    all.emplace_back(it.key(), JsonView(&it.value()));
  }
  return all;
}

std::optional<std::string> JsonView::AsString() const {
  if (!exists() || !value_->is_string()) return std::nullopt;
  return value_->get_ref<const std::string&>();
}

std::optional<bool> JsonView::AsBool() const {
  if (!exists() || !value_->is_boolean()) return std::nullopt;
  return value_->get<bool>();
}

std::optional<int64_t> JsonView::AsInt64() const {
  if (!exists() || !value_->is_number_integer()) return std::nullopt;
  if (value_->is_number_unsigned() &&
      value_->get<uint64_t>() >
          static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return std::nullopt;
  }
  return value_->get<int64_t>();
}

std::optional<uint64_t> JsonView::AsUint64() const {
  if (!exists() || !value_->is_number_integer()) return std::nullopt;
  if (!value_->is_number_unsigned() && value_->get<int64_t>() < 0) {
    return std::nullopt;
  }
  return value_->get<uint64_t>();
}

std::optional<double> JsonView::AsDouble() const {
  if (!exists() || !value_->is_number()) return std::nullopt;
  return value_->get<double>();
}

std::string JsonView::StringOr(std::string_view otherwise) const {
  if (!exists() || !value_->is_string()) return std::string(otherwise);
  return value_->get_ref<const std::string&>();
}

std::string JsonView::Dump() const {
  if (!exists()) return "null";
  return value_->dump(-1, ' ', false, Value::error_handler_t::replace);
}

std::string JsonView::DumpIndented() const {
  if (!exists()) return "null\n";
  return value_->dump(2, ' ', false, Value::error_handler_t::replace) + "\n";
}

absl::StatusOr<Json> Json::Parse(std::string_view text) {
  if (Depth(text) > kMaxDepth) {
    return absl::InvalidArgumentError(
        fmt::format("JSON is nested more than {} deep", kMaxDepth));
  }
  auto value = std::make_unique<Value>(
      Value::parse(text, nullptr, /*exceptions=*/false));
  if (value->is_discarded()) {
    // The parser insists on UTF-8; runtimes print whatever was in a file name.
    const std::string valid = WithValidUtf8(text);
    if (valid != text) *value = Value::parse(valid, nullptr, false);
  }
  if (value->is_discarded()) return absl::InvalidArgumentError("invalid JSON");
  return Json(std::move(value));
}

Json Json::Object() { return Json(std::make_unique<Value>(Value::object())); }
Json Json::Array() { return Json(std::make_unique<Value>(Value::array())); }

Json::Json(std::unique_ptr<Value> value) : value_(std::move(value)) {}
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

JsonView Json::view() const { return JsonView(value_.get()); }

template <typename T>
void Json::SetMember(std::string_view key, T&& value) {
  if (value_ == nullptr) value_ = std::make_unique<Value>();
  if (!value_->is_object()) *value_ = Value::object();
  (*value_)[std::string(key)] = std::forward<T>(value);
}

void Json::Set(std::string_view key, std::string_view value) {
  SetMember(key, std::string(value));
}
void Json::Set(std::string_view key, bool value) { SetMember(key, value); }
void Json::Set(std::string_view key, int64_t value) { SetMember(key, value); }
void Json::Set(std::string_view key, uint64_t value) { SetMember(key, value); }
void Json::Set(std::string_view key, Json value) {
  SetMember(key, value.value_ == nullptr ? Value() : std::move(*value.value_));
}

void Json::Append(std::string_view value) {
  if (value_ == nullptr) value_ = std::make_unique<Value>();
  if (!value_->is_array()) *value_ = Value::array();
  value_->push_back(std::string(value));
}

void Json::Append(Json value) {
  if (value_ == nullptr) value_ = std::make_unique<Value>();
  if (!value_->is_array()) *value_ = Value::array();
  value_->push_back(value.value_ == nullptr ? Value()
                                            : std::move(*value.value_));
}

void Json::Remove(std::string_view key) {
  if (value_ != nullptr && value_->is_object()) value_->erase(std::string(key));
}

}  // namespace wisp
