// The formats of cgroup files. Text in, numbers out.
#ifndef WISP_CGROUPS_PARSE_H_
#define WISP_CGROUPS_PARSE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// An unsigned number; `max` becomes `max`; a negative one 0. Error:
// kInvalidArgument.
absl::StatusOr<uint64_t> ParseCgroupNumber(std::string_view text, uint64_t max);

// A file with one number, of which v2 looks at the first 32 bytes and takes
// what it cannot read for 0.
uint64_t ParseSingleValue(std::string_view text);

// A line each of KEY VALUE, exactly two fields; `max` is 2^64 - 1. Error:
// kInvalidArgument. The keys point into `text`.
using KeyValues = std::vector<std::pair<std::string_view, uint64_t>>;
absl::StatusOr<KeyValues> ParseKeyValues(std::string_view text);

// Sets the members of `target` that `table` names.
template <typename T, size_t kSize>
void Assign(const KeyValues& values,
            const std::pair<std::string_view, uint64_t T::*> (&table)[kSize],
            T& target) {
  for (const auto& [key, value] : values) {
    for (const auto& [name, member] : table) {
      if (key == name) target.*member = value;
    }
  }
}

struct RdmaEntry {
  std::string device;
  uint32_t hca_handles = 0;
  uint32_t hca_objects = 0;

  friend bool operator==(const RdmaEntry&, const RdmaEntry&) = default;
};
// `DEVICE hca_handle=N hca_object=N`; `max` is 2^32 - 1; other lines are
// skipped.
std::vector<RdmaEntry> ParseRdma(std::string_view text);

struct PsiData {
  double avg10 = 0;
  double avg60 = 0;
  double avg300 = 0;
  uint64_t total = 0;  // us

  friend bool operator==(const PsiData&, const PsiData&) = default;
};
struct PsiStats {
  std::optional<PsiData> some;
  std::optional<PsiData> full;

  friend bool operator==(const PsiStats&, const PsiStats&) = default;
};
// None if the text is no pressure file.
std::optional<PsiStats> ParsePressure(std::string_view text);

// A line of io.stat.
struct IoEntry {
  uint64_t major = 0;
  uint64_t minor = 0;
  uint64_t rbytes = 0;
  uint64_t wbytes = 0;
  uint64_t rios = 0;
  uint64_t wios = 0;

  friend bool operator==(const IoEntry&, const IoEntry&) = default;
};
// Unknown keys and lines with nothing but a device are skipped. Error:
// kInvalidArgument.
absl::StatusOr<std::vector<IoEntry>> ParseIoStat(std::string_view text);

// A line of a v1 blkio file.
struct BlkioEntry {
  std::string op;      // Read, Write, Sync, Async, Discard, Total or empty
  std::string device;  // /dev/NAME, or empty
  uint64_t major = 0;
  uint64_t minor = 0;
  uint64_t value = 0;

  friend bool operator==(const BlkioEntry&, const BlkioEntry&) = default;
};
// Names of block devices by number, from /proc/partitions; the first wins.
using DeviceNames = std::map<std::pair<uint64_t, uint64_t>, std::string>;
DeviceNames ParsePartitions(std::string_view text);
// `MAJ:MIN [Op] VALUE`; the lone `Total N` is skipped. Error: kInvalidArgument.
absl::StatusOr<std::vector<BlkioEntry>> ParseBlkio(std::string_view text,
                                                   const DeviceNames& names);

// "2MB" of `hugepages-2048kB`; empty for another name.
std::string HugePageSize(std::string_view directory_name);

}  // namespace wisp

#endif  // WISP_CGROUPS_PARSE_H_
