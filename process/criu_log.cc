#include "process/criu_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

// With -v4 a dump of many processes writes megabytes; it ends in the failure.
constexpr off_t kMostOfALog = off_t{256} << 10;
constexpr size_t kMostOfALine = 300;

constexpr int kMostErrors = 3;

}  // namespace

std::string CriuErrors(std::string_view log) {
  constexpr std::string_view kMark = " Error (";
  std::string errors;
  for (int found = 0; found < kMostErrors;) {
    const size_t mark = log.find(kMark);
    if (mark == std::string_view::npos) break;
    log.remove_prefix(mark + kMark.size());
    const std::string_view line =
        log.substr(0, std::min(log.find('\n'), kMostOfALine));
    const size_t close = line.find("):");
    if (close == std::string_view::npos) continue;
    const std::string_view words = line.substr(close + 2);
    // Where it may not raise its own limit, it says so and goes on.
    if (words.find("RLIMIT_NOFILE for self") != std::string_view::npos) {
      continue;
    }
    ++found;
    errors += fmt::format("{}{}: {}", errors.empty() ? "" : "; ",
                          line.substr(0, close),
                          View(absl::StripAsciiWhitespace(
                              absl::string_view(words.data(), words.size()))));
  }
  return errors;
}

std::string CriuErrorsIn(const std::string& path) {
  const absl::StatusOr<UniqueFd> fd = OpenFd(path, O_RDONLY);
  struct stat info;
  if (!fd.ok() || fstat(fd->get(), &info) != 0) return "";
  const off_t start = std::max<off_t>(0, info.st_size - kMostOfALog);
  if (lseek(fd->get(), start, SEEK_SET) < 0) return "";
  const absl::StatusOr<std::string> text =
      ReadAll(fd->get(), size_t{2} * kMostOfALog);
  return text.ok() ? CriuErrors(*text) : "";
}

}  // namespace wisp
