// Cgroup files and what is read beside them: no text is too odd.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cgroups/host.h"
#include "cgroups/parse.h"
#include "process/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t lines =
      static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;

  const absl::StatusOr<uint64_t> number = wisp::ParseCgroupNumber(text, 7);
  if (number.ok() && size <= 32 && *number != 7) {
    WISP_CHECK(wisp::ParseSingleValue(text) == *number);
  }
  const absl::StatusOr<wisp::KeyValues> values = wisp::ParseKeyValues(text);
  if (values.ok()) {
    WISP_CHECK(values->size() <= lines);
    for (const auto& [key, value] : *values) {
      WISP_CHECK(!key.empty() && key.data() >= text.data() &&
                 key.data() + key.size() <= text.data() + text.size());
    }
  }
  WISP_CHECK(wisp::ParseRdma(text).size() <= lines);
  (void)wisp::ParsePressure(text);
  const auto io = wisp::ParseIoStat(text);
  if (io.ok()) WISP_CHECK(io->size() <= lines);
  const wisp::DeviceNames names = wisp::ParsePartitions(text);
  const auto blkio = wisp::ParseBlkio(text, names);
  if (blkio.ok()) WISP_CHECK(blkio->size() <= lines);
  (void)wisp::HugePageSize(text);
  (void)wisp::ParseCgroupMounts(text);
  return 0;
}
