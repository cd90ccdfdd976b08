// Overlay's option strings: many layers in little room.
#ifndef WISP_MOUNT_OVERLAY_H_
#define WISP_MOUNT_OVERLAY_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wisp {

// What mount(2) takes: a page, whose last byte the kernel overwrites with 0.
// containerd lets one byte more through (core/mount/mount_linux.go), which cuts
// off the end of the last layer's name without a word.
size_t MaxMountData();

// Overlay's data, with relative lower layers.
struct CompactOverlay {
  std::string directory;  // where they start; ends in a slash
  std::vector<std::string> data;
};

// The layers of `lowerdir=`, still escaped. An escaped colon separates nothing.
std::vector<std::string> SplitLayers(std::string_view value);

// Without backslashes: as the path is on disk.
std::string UnescapeLayer(std::string_view layer);
// With backslashes before what overlay or mount(2) would take for a separator.
std::string EscapeLayer(std::string_view path);

// The deepest directory above all `layers`, still escaped. Empty if there is
// none but `/` or the current one.
std::string CommonDirectory(const std::vector<std::string>& layers);

// The layers of the last `lowerdir=` of `data`; none if there is no such
// option.
std::vector<std::string> LowerLayers(const std::vector<std::string>& data);

// `data` with `lowerdir=` taken out and one of `layers` at the end.
std::vector<std::string> WithLowerLayers(
    std::vector<std::string> data, const std::vector<std::string>& layers);

// If the options come near a page (page size - 512, as containerd): the same
// mount with its lower layers relative to the directory they have in common.
// None if they are short, fewer than two, or have nothing in common.
std::optional<CompactOverlay> CompactLongOverlay(
    const std::vector<std::string>& data);

}  // namespace wisp

#endif  // WISP_MOUNT_OVERLAY_H_
