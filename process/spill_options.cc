#include "process/spill_options.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr uint64_t kLargest = uint64_t{1} << 40;

std::optional<uint64_t> ParseSize(std::string_view text) {
  int shift = 0;
  if (!text.empty()) {
    switch (text.back()) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
    }
    if (shift > 0) text.remove_suffix(1);
  }
  uint64_t size = 0;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &size) ||
      size > kLargest >> shift) {
    return std::nullopt;
  }
  return size << shift;
}

// False if `value` is none for `key`.
bool Apply(std::string_view key, const std::string& value,
           SpillOptions* options) {
  if (key == "memory" || key == "file") {
    const std::optional<uint64_t> size = ParseSize(value);
    if (!size.has_value()) return false;
    (key == "memory" ? options->memory : options->file) = *size;
    return true;
  }
  if (key == "full") {
    options->drop = value == "drop";
    return value == "drop" || value == "block";
  }
  if (key == "dir") {
    options->directory = value;
    return value.starts_with("/");
  }
  return false;
}

}  // namespace

absl::StatusOr<SpillOptions> ParseSpillOptions(std::string_view text) {
  SpillOptions options;
  for (absl::string_view part :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ',',
                      absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (!Apply(entry.first, entry.second, &options)) {
      return absl::InvalidArgumentError(
          fmt::format("output that waits: \"{}\"", View(part)));
    }
  }
  return options;
}

}  // namespace wisp
