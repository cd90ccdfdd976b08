#include "process/stdio_plan.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"

namespace wisp {
namespace {

struct Uri {
  std::string scheme;
  std::string path;        // decoded
  std::string_view query;  // as written
};

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> Decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else {
      const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
      const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
      if (low < 0) return std::nullopt;
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return decoded;
}

// The scheme in lower case; empty if `text` does not begin with one, as a path
// does not.
std::string SchemeOf(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0 ||
      !absl::ascii_isalpha(static_cast<unsigned char>(text[0]))) {
    return "";
  }
  std::string scheme(text.substr(0, colon));
  for (char& c : scheme) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_isalnum(byte) && c != '+' && c != '-' && c != '.') {
      return "";
    }
    c = absl::ascii_tolower(byte);
  }
  return scheme;
}

absl::StatusOr<Uri> ParseUri(std::string_view text) {
  const auto fail = [text](std::string_view why) {
    return absl::UnknownError(
        fmt::format("unable to parse stdout uri: parse \"{}\": {}", text, why));
  };
  if (!text.empty() && text[0] == ':') return fail("missing protocol scheme");
  Uri uri;
  uri.scheme = SchemeOf(text);
  if (uri.scheme.empty()) {
    uri.path = std::string(text);
    return uri;
  }
  if (std::any_of(text.begin(), text.end(), [](char c) {
        return absl::ascii_iscntrl(static_cast<unsigned char>(c));
      })) {
    return fail("net/url: invalid control character in URL");
  }
  std::string_view rest = text.substr(uri.scheme.size() + 1);
  rest = rest.substr(0, rest.find('#'));
  if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
    uri.query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (rest.substr(0, 2) == "//") {  // the host is not looked at
    const size_t slash = rest.find('/', 2);
    rest = slash == std::string_view::npos ? "" : rest.substr(slash);
  }
  std::optional<std::string> path = Decode(rest, /*plus_is_space=*/false);
  if (!path.has_value()) return fail("invalid URL escape");
  uri.path = *std::move(path);
  return uri;
}

std::vector<std::string> Arguments(std::string_view query) {
  std::vector<std::string> keys;
  std::vector<std::string> arguments;
  for (absl::string_view part :
       absl::StrSplit(absl::string_view(query.data(), query.size()), '&',
                      absl::SkipEmpty())) {
    const std::string_view pair = View(part);
    const size_t equals = std::min(pair.find('='), pair.size());
    std::optional<std::string> key = Decode(pair.substr(0, equals), true);
    std::optional<std::string> value =
        Decode(pair.substr(std::min(equals + 1, pair.size())), true);
    // Go drops what it cannot decode, and all values of a key but the first.
    if (!key.has_value() || !value.has_value() ||
        std::find(keys.begin(), keys.end(), *key) != keys.end()) {
      continue;
    }
    keys.push_back(*key);
    arguments.push_back(*std::move(key));
    arguments.push_back(*std::move(value));
  }
  return arguments;
}

std::string FifoPath(const std::string& text) {
  if (SchemeOf(text) != "fifo") return text;
  const absl::StatusOr<Uri> uri = ParseUri(text);
  return uri.ok() ? uri->path : text;
}

}  // namespace

absl::StatusOr<StdioPlan> PlanStdio(const StdioRequest& request) {
  StdioPlan plan;
  ASSIGN_OR_RETURN(const Uri uri, ParseUri(request.stdout_path));
  const bool logger = uri.scheme == "binary" || uri.scheme == "binary-v2";
  if (logger) {
    plan.logger = {.path = uri.path,
                   .arguments = Arguments(uri.query),
                   .must_say_ready = uri.scheme == "binary-v2"};
  }
  if (request.terminal) {
    // All but a logger is taken for a path, and stderr is not looked at.
    plan.mode = StdioPlan::Mode::kTerminal;
    plan.stdin_path = FifoPath(request.stdin_path);
    if (!logger) plan.stdout_path = FifoPath(request.stdout_path);
    return plan;
  }
  if (logger) {
    plan.mode = StdioPlan::Mode::kLogger;
    return plan;
  }
  plan.stdin_path = FifoPath(request.stdin_path);
  if (uri.scheme == "file") {
    plan.mode = StdioPlan::Mode::kFile;
    plan.stdout_path = uri.path;
    plan.stderr_path = uri.path;
  } else if (uri.scheme.empty() || uri.scheme == "fifo") {
    plan.mode = StdioPlan::Mode::kFifo;
    plan.stdout_path = uri.path;
    plan.stderr_path = FifoPath(request.stderr_path);
    if (plan.stdin_path.empty() && plan.stdout_path.empty() &&
        plan.stderr_path.empty()) {
      plan.mode = StdioPlan::Mode::kNull;
    }
  } else {
    return absl::UnknownError(
        fmt::format("unknown STDIO scheme {}", uri.scheme));
  }
  return plan;
}

}  // namespace wisp
