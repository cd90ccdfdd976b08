#include "cgroups/parse.h"

#include <algorithm>
#include <charconv>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr uint64_t kMax = UINT64_MAX;

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::vector<std::string_view> Fields(std::string_view line) {
  std::vector<std::string_view> fields;
  size_t i = 0;
  while (i < line.size()) {
    while (i < line.size() && IsSpace(line[i])) ++i;
    const size_t begin = i;
    while (i < line.size() && !IsSpace(line[i])) ++i;
    if (i > begin) fields.push_back(line.substr(begin, i - begin));
  }
  return fields;
}

// Calls `visit(line)` until it returns false; the end after the last newline is
// no line.
template <typename Visit>
bool ForEachLine(std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (!visit(text.substr(0, end))) return false;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return true;
}

template <typename T>
bool ParseWhole(std::string_view text, T& value) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (IsSpace(text.front()) || text.front() == '\n')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (IsSpace(text.back()) || text.back() == '\n')) {
    text.remove_suffix(1);
  }
  return text;
}

// KEY=VALUE
bool SplitPair(std::string_view text, std::string_view& key,
               std::string_view& value) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  key = text.substr(0, equals);
  value = text.substr(equals + 1);
  return true;
}

bool ParseDevice(std::string_view text, uint64_t& major, uint64_t& minor) {
  const size_t colon = text.find(':');
  return colon != std::string_view::npos &&
         ParseWhole(text.substr(0, colon), major) &&
         ParseWhole(text.substr(colon + 1), minor);
}

absl::Status Malformed(std::string_view line) {
  return absl::InvalidArgumentError(fmt::format("malformed line: {}", line));
}

uint32_t ParseRdmaNumber(std::string_view text) {
  if (text == "max") return UINT32_MAX;
  uint32_t number = 0;
  return ParseWhole(text, number) ? number : 0;
}

bool ParsePressureLine(const std::vector<std::string_view>& fields,
                       PsiData& data) {
  for (size_t i = 1; i < fields.size(); ++i) {
    std::string_view key, value;
    if (!SplitPair(fields[i], key, value)) return false;
    bool known = true;
    if (key == "avg10") {
      known = ParseWhole(value, data.avg10);
    } else if (key == "avg60") {
      known = ParseWhole(value, data.avg60);
    } else if (key == "avg300") {
      known = ParseWhole(value, data.avg300);
    } else if (key == "total") {
      known = ParseWhole(value, data.total);
    }
    if (!known) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<uint64_t> ParseCgroupNumber(std::string_view text,
                                           uint64_t max) {
  text = Trimmed(text);
  if (text == "max") return max;
  uint64_t number = 0;
  if (ParseWhole(text, number)) return number;
  int64_t negative = 0;
  if (ParseWhole(text, negative) && negative < 0) return 0;
  return absl::InvalidArgumentError(
      fmt::format("not a number: {}", text.substr(0, 64)));
}

uint64_t ParseSingleValue(std::string_view text) {
  return ParseCgroupNumber(text.substr(0, 32), kMax).value_or(0);
}

absl::StatusOr<KeyValues> ParseKeyValues(std::string_view text) {
  KeyValues values;
  absl::Status status;
  ForEachLine(text, [&](std::string_view line) {
    const std::vector<std::string_view> fields = Fields(line);
    const absl::StatusOr<uint64_t> value =
        fields.size() == 2 ? ParseCgroupNumber(fields[1], kMax)
                           : absl::StatusOr<uint64_t>(Malformed(line));
    if (!value.ok()) {
      status = Malformed(line);
      return false;
    }
    values.emplace_back(fields[0], *value);
    return true;
  });
  if (!status.ok()) return status;
  return values;
}

std::vector<RdmaEntry> ParseRdma(std::string_view text) {
  std::vector<RdmaEntry> entries;
  ForEachLine(text, [&](std::string_view line) {
    const std::vector<std::string_view> fields = Fields(line);
    if (fields.size() != 3) return true;
    RdmaEntry entry;
    entry.device = fields[0];
    for (size_t i = 1; i < fields.size(); ++i) {
      std::string_view key, value;
      if (!SplitPair(fields[i], key, value)) continue;
      if (key == "hca_handle") entry.hca_handles = ParseRdmaNumber(value);
      if (key == "hca_object") entry.hca_objects = ParseRdmaNumber(value);
    }
    entries.push_back(std::move(entry));
    return true;
  });
  return entries;
}

std::optional<PsiStats> ParsePressure(std::string_view text) {
  PsiStats stats;
  const bool good = ForEachLine(text, [&](std::string_view line) {
    const std::vector<std::string_view> fields = Fields(line);
    if (fields.empty()) return true;
    PsiData data;
    if (!ParsePressureLine(fields, data)) return false;
    if (fields[0] == "some") stats.some = data;
    if (fields[0] == "full") stats.full = data;
    return true;
  });
  if (!good || (!stats.some && !stats.full)) return std::nullopt;
  return stats;
}

absl::StatusOr<std::vector<IoEntry>> ParseIoStat(std::string_view text) {
  static constexpr std::pair<std::string_view, uint64_t IoEntry::*> kKeys[] = {
      {"rbytes", &IoEntry::rbytes},
      {"wbytes", &IoEntry::wbytes},
      {"rios", &IoEntry::rios},
      {"wios", &IoEntry::wios},
  };
  std::vector<IoEntry> entries;
  absl::Status status;
  ForEachLine(text, [&](std::string_view line) {
    const std::vector<std::string_view> fields = Fields(line);
    if (fields.size() < 2) return true;
    IoEntry entry;
    bool good = ParseDevice(fields[0], entry.major, entry.minor);
    for (size_t i = 1; i < fields.size() && good; ++i) {
      std::string_view key, value;
      if (!SplitPair(fields[i], key, value)) continue;
      for (const auto& [name, member] : kKeys) {
        if (key == name) good = ParseWhole(value, entry.*member);
      }
    }
    if (!good) {
      status = Malformed(line);
      return false;
    }
    entries.push_back(entry);
    return true;
  });
  if (!status.ok()) return status;
  return entries;
}

DeviceNames ParsePartitions(std::string_view text) {
  DeviceNames names;
  ForEachLine(text, [&](std::string_view line) {
    // major minor #blocks name
    const std::vector<std::string_view> fields = Fields(line);
    uint64_t major = 0, minor = 0;
    if (fields.size() == 4 && ParseWhole(fields[0], major) &&
        ParseWhole(fields[1], minor)) {
      names.emplace(std::make_pair(major, minor), fields[3]);
    }
    return true;
  });
  return names;
}

absl::StatusOr<std::vector<BlkioEntry>> ParseBlkio(std::string_view text,
                                                   const DeviceNames& names) {
  std::vector<BlkioEntry> entries;
  absl::Status status;
  ForEachLine(text, [&](std::string_view line) {
    const std::vector<std::string_view> fields = Fields(line);
    if (fields.empty()) return true;
    if (fields.size() == 2 && fields[0] == "Total") return true;
    BlkioEntry entry;
    if (fields.size() < 2 || fields.size() > 3 ||
        !ParseDevice(fields[0], entry.major, entry.minor) ||
        !ParseWhole(fields.back(), entry.value)) {
      status = Malformed(line);
      return false;
    }
    if (fields.size() == 3) entry.op = fields[1];
    const auto name = names.find({entry.major, entry.minor});
    if (name != names.end()) entry.device = "/dev/" + name->second;
    entries.push_back(std::move(entry));
    return true;
  });
  if (!status.ok()) return status;
  return entries;
}

std::string HugePageSize(std::string_view directory_name) {
  constexpr std::string_view kPrefix = "hugepages-";
  constexpr std::string_view kSuffix = "kB";
  uint64_t kilobytes = 0;
  if (directory_name.size() < kPrefix.size() + kSuffix.size() ||
      !directory_name.starts_with(kPrefix) ||
      !directory_name.ends_with(kSuffix) ||
      !ParseWhole(directory_name.substr(
                      kPrefix.size(),
                      directory_name.size() - kPrefix.size() - kSuffix.size()),
                  kilobytes)) {
    return "";
  }
  if (kilobytes >= uint64_t{1} << 20) {
    return fmt::format("{}GB", kilobytes >> 20);
  }
  if (kilobytes >= uint64_t{1} << 10) {
    return fmt::format("{}MB", kilobytes >> 10);
  }
  return fmt::format("{}KB", kilobytes);
}

}  // namespace wisp
