#include "shim/log_line.h"

#include <limits.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/json.h"
#include "shim/identity.h"

namespace wisp {
namespace {

bool IsBare(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
         c == '.' || c == '_' || c == '/' || c == '@' || c == '^' || c == '+';
}

// Whether Go prints the character rather than its number: near enough to
// unicode.IsPrint for what a log has, and safe for every terminal.
bool IsPrintable(uint32_t c) {
  if (c < 0xA1 || c == 0xAD) return false;
  if (c >= 0x2000 && c <= 0x200F) return false;  // spaces, directions
  if (c >= 0x2028 && c <= 0x202F) return false;
  if (c >= 0x205F && c <= 0x206F) return false;
  if (c == 0x3000 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF) return false;
  if (c >= 0xE000 && c <= 0xF8FF) return false;  // private use
  return c < 0xE0000;
}

// Decodes the character that valid UTF-8 begins with.
uint32_t Decode(std::string_view text, size_t* length) {
  const auto first = static_cast<unsigned char>(text[0]);
  *length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  uint32_t c = first & (0xFF >> (*length + 1));
  for (size_t i = 1; i < *length; ++i) {
    c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  return c;
}

void AppendEscaped(unsigned char c, std::string* out) {
  constexpr std::string_view kNamed = "\a\b\t\n\v\f\r";  // 7 to 13
  if (c == '"' || c == '\\') {
    *out += '\\';
    *out += static_cast<char>(c);
  } else if (kNamed.find(static_cast<char>(c)) != kNamed.npos && c != 0) {
    *out += '\\';
    *out += "abtnvfr"[c - 7];
  } else if (c < 0x20 || c >= 0x7F) {
    *out += fmt::format("\\x{:02x}", c);
  } else {
    *out += static_cast<char>(c);
  }
}

}  // namespace

LogField::LogField(std::string_view field_key, std::string_view text)
    : key(field_key), value(text) {}
LogField::LogField(std::string_view field_key, const char* text)
    : LogField(field_key, std::string_view(text)) {}
LogField::LogField(std::string_view field_key, const std::string& text)
    : LogField(field_key, std::string_view(text)) {}
LogField::LogField(std::string_view field_key, const absl::Status& status)
    : LogField(field_key, Message(status)) {}
LogField::LogField(std::string_view field_key, bool flag)
    : LogField(field_key, std::string_view(flag ? "true" : "false")) {}
LogField::LogField(Number, std::string_view field_key, int64_t number)
    : LogField(field_key, fmt::to_string(number)) {}
LogField::LogField(Number, std::string_view field_key, uint64_t number)
    : LogField(field_key, fmt::to_string(number)) {}
LogField::~LogField() = default;

std::string QuoteLogValue(std::string_view value) {
  if (std::all_of(value.begin(), value.end(), IsBare)) {
    return std::string(value);
  }
  std::string quoted = "\"";
  while (!value.empty()) {
    const auto first = static_cast<unsigned char>(value[0]);
    const size_t sequence = Utf8SequenceLength(value);
    if (first < 0x80 || sequence == 0) {
      AppendEscaped(first, &quoted);
      value.remove_prefix(1);
      continue;
    }
    size_t length;
    const uint32_t c = Decode(value, &length);
    if (IsPrintable(c)) {
      quoted += value.substr(0, length);
    } else if (c < 0x10000) {
      quoted += fmt::format("\\u{:04x}", c);
    } else {
      quoted += fmt::format("\\U{:08x}", c);
    }
    value.remove_prefix(length);
  }
  quoted += '"';
  return quoted;
}

std::string FormatLogLine(absl::Time time, std::string_view level,
                          std::string_view message, LogFields fields) {
  std::string line = fmt::format(
      "time=\"{}\" level={}",
      absl::FormatTime("%E4Y-%m-%dT%H:%M:%E9SZ", time, absl::UTCTimeZone()),
      level);
  if (!message.empty()) {
    line += " msg=";
    line += QuoteLogValue(message);
  }
  const LogField runtime("runtime", kRuntimeName);
  std::vector<const LogField*> sorted = {&runtime};
  for (const LogField& field : fields) sorted.push_back(&field);
  std::sort(
      sorted.begin(), sorted.end(),
      [](const LogField* a, const LogField* b) { return a->key < b->key; });
  for (const LogField* field : sorted) {
    line += fmt::format(" {}={}", field->key, QuoteLogValue(field->value));
  }
  constexpr std::string_view kCut = "...\n";
  if (line.size() >= PIPE_BUF) {
    line.resize(PIPE_BUF - kCut.size());
    // Not in the middle of a character.
    while ((static_cast<unsigned char>(line.back()) & 0xC0) == 0x80) {
      line.pop_back();
    }
    if (static_cast<unsigned char>(line.back()) >= 0xC0) line.pop_back();
    line += kCut;
  } else {
    line += '\n';
  }
  return line;
}

}  // namespace wisp
