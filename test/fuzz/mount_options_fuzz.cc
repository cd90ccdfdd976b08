// Options, one a line, through all that reads them before the kernel does.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mount/id_map.h"
#include "mount/mount_info.h"
#include "mount/options.h"
#include "mount/overlay.h"
#include "process/status_macros.h"

namespace {

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

// Compacted layers name the same paths.
void CheckOverlay(std::vector<std::string> data) {
  // Long enough for it to be tried.
  data.push_back("pad=" + std::string(1 << 16, 'x'));
  const std::optional<wisp::CompactOverlay> compact =
      wisp::CompactLongOverlay(data);
  if (!compact) return;
  const std::vector<std::string> before = wisp::LowerLayers(data);
  const std::vector<std::string> after = wisp::LowerLayers(compact->data);
  WISP_CHECK(before.size() == after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    WISP_CHECK(!after[i].starts_with('/'));
    WISP_CHECK(compact->directory + wisp::UnescapeLayer(after[i]) ==
               wisp::UnescapeLayer(before[i]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> lines = Lines(text);
  const absl::StatusOr<wisp::MountOptions> options =
      wisp::ParseMountOptions(lines);
  if (options.ok()) {
    WISP_CHECK(options->data.size() <= lines.size());
    for (const std::string& option : options->data) {
      WISP_CHECK(option != "ro" && option != "defaults" && option != "rslave" &&
                 option != "loop");
      WISP_CHECK(!option.starts_with("X-containerd."));
    }
    WISP_CHECK(options->loop || !options->direct_io);
    (void)wisp::ParseIdMap(options->uid_map);
    CheckOverlay(options->data);
  }
  WISP_CHECK(wisp::UnescapeLayer(wisp::EscapeLayer(text)) == text);
  WISP_CHECK(wisp::SplitLayers(wisp::EscapeLayer(text)).size() == 1);
  (void)wisp::ParseIdMap(text);
  (void)wisp::ParseMountInfo(text);
  return 0;
}
