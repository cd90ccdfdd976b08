#include "process/runc_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/json.h"

namespace wisp {
namespace {

constexpr int64_t kMostOfALog = int64_t{1} << 20;
// Enough for the time that every line of a log has.
constexpr size_t kHead = 128;

// Length of the object that `text` begins with, 0 if it does not end. A raw
// newline inside a string is no JSON: there the object broke off.
size_t ObjectLength(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\n') return 0;
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}') {
      if (--depth == 0) return i + 1;
    }
  }
  return 0;
}

std::string HeadOf(int fd, size_t size) {
  std::string head(size, '\0');
  const ssize_t n = pread(fd, head.data(), head.size(), 0);
  head.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return head;
}

// What `text` begins with, as far as it is whole.
std::string_view WholeObjects(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    if (absl::ascii_isspace(static_cast<unsigned char>(text[end]))) {
      ++end;
      continue;
    }
    const size_t length = text[end] == '{' ? ObjectLength(text.substr(end)) : 0;
    if (length == 0) break;
    end += length;
  }
  return text.substr(0, end);
}

void SkipLine(std::string_view* text) {
  const size_t newline = text->find('\n');
  text->remove_prefix(newline == std::string_view::npos ? text->size()
                                                        : newline + 1);
}

}  // namespace

RuncLogMark MarkRuncLog(const std::string& path) {
  const absl::StatusOr<UniqueFd> fd = OpenFd(path, O_RDONLY);
  struct stat info;
  if (!fd.ok() || fstat(fd->get(), &info) != 0) return {};
  return {info.st_size, HeadOf(fd->get(), kHead)};
}

absl::StatusOr<std::optional<std::string>> LastErrorInRuncLog(
    std::string_view text) {
  std::optional<std::string> error;
  std::optional<std::string> fatal;
  bool any_json = false;
  std::string garbage;
  while (!text.empty()) {
    if (absl::ascii_isspace(static_cast<unsigned char>(text.front()))) {
      text.remove_prefix(1);
      continue;
    }
    const size_t length = text.front() == '{' ? ObjectLength(text) : 0;
    const absl::StatusOr<Json> entry = Json::Parse(text.substr(0, length));
    if (!entry.ok()) {  // an object that does not end is the empty text here
      if (garbage.empty()) garbage = text.substr(0, text.find('\n'));
      SkipLine(&text);
      continue;
    }
    text.remove_prefix(length);
    any_json = true;
    // youki has other names for the same.
    const std::string youki = (*entry)["level"].StringOr("") == "ERROR"
                                  ? (*entry)["message"].StringOr("")
                                  : std::string();
    const std::string level =
        youki.empty() ? (*entry)["level"].StringOr("") : "error";
    if (level != "error" && level != "fatal") continue;
    const std::string raw =
        youki.empty() ? (*entry)["msg"].StringOr("") : youki;
    const absl::string_view message = absl::StripAsciiWhitespace(raw);
    (level == "error" ? error : fatal) = std::string(message);
  }
  if (error.has_value()) return error;
  if (fatal.has_value()) return fatal;
  if (!any_json && !garbage.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("no JSON in the log: {}", garbage.substr(0, 200)));
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> LastRuncError(
    const std::string& path, const RuncLogMark& mark) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(path, O_RDONLY));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, path);
  const bool written_over = HeadOf(fd.get(), mark.head.size()) != mark.head;
  // Shorter than it was: it is another file, and all of it is new.
  int64_t offset = mark.size > info.st_size || written_over ? 0 : mark.size;
  if (info.st_size - offset > kMostOfALog) offset = info.st_size - kMostOfALog;
  if (lseek(fd.get(), offset, SEEK_SET) < 0) {
    return ErrnoStatus(errno, fmt::format("seek {}", path));
  }
  // Twice as much, for what is appended while we read.
  ASSIGN_OR_RETURN(std::string text, ReadAll(fd.get(), 2 * kMostOfALog));
  // Behind what was written over something older, that goes on.
  return LastErrorInRuncLog(written_over ? WholeObjects(text) : text);
}

}  // namespace wisp
