#include "mount/mount_info.h"

#include <charconv>

#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes space, tab, newline, backslash (and # in places) as \ooo.
std::string Unescape(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) &&
        IsOctal(text[i + 2]) && IsOctal(text[i + 3])) {
      result +=
          static_cast<char>(((text[i + 1] - '0') << 6) |
                            ((text[i + 2] - '0') << 3) | (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<std::string_view> Fields(std::string_view line) {
  std::vector<std::string_view> fields;
  // Single spaces: a source may be the empty string, with two around it.
  for (;;) {
    const size_t end = line.find(' ');
    fields.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return fields;
    line.remove_prefix(end + 1);
  }
}

bool ParseNumber(std::string_view text, int& number) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseLine(std::string_view line, MountInfo& info) {
  const std::vector<std::string_view> fields = Fields(line);
  // ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 3 >= fields.size()) return false;
  if (!ParseNumber(fields[0], info.id) ||
      !ParseNumber(fields[1], info.parent)) {
    return false;
  }
  info.root = Unescape(fields[3]);
  info.mount_point = Unescape(fields[4]);
  info.options = fields[5];
  info.type = Unescape(fields[dash + 1]);
  info.source = Unescape(fields[dash + 2]);
  info.super_options = Unescape(fields[dash + 3]);
  return true;
}

}  // namespace

absl::StatusOr<std::vector<MountInfo>> ParseMountInfo(std::string_view text) {
  std::vector<MountInfo> mounts;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty()) continue;
    MountInfo info;
    if (!ParseLine(line, info)) {
      return absl::InvalidArgumentError(
          fmt::format("mountinfo: malformed line: {}", line));
    }
    mounts.push_back(std::move(info));
  }
  return mounts;
}

absl::StatusOr<std::vector<MountInfo>> ReadMountInfo() {
  // By thread: one that has left the group's namespace must see its own.
  ASSIGN_OR_RETURN(std::string text, ReadFile("/proc/thread-self/mountinfo"));
  return ParseMountInfo(text);
}

bool IsAtOrBelow(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace wisp
