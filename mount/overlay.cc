#include "mount/overlay.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr std::string_view kLowerDir = "lowerdir=";

size_t PageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

size_t MaxMountData() { return PageSize() - 1; }

std::vector<std::string> SplitLayers(std::string_view value) {
  std::vector<std::string> layers(1);
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] == ':') {
      layers.emplace_back();
      continue;
    }
    layers.back() += value[i];
    if (value[i] == '\\' && i + 1 < value.size()) layers.back() += value[++i];
  }
  return layers;
}

std::string UnescapeLayer(std::string_view layer) {
  std::string path;
  for (size_t i = 0; i < layer.size(); ++i) {
    if (layer[i] == '\\' && i + 1 < layer.size()) ++i;
    path += layer[i];
  }
  return path;
}

std::string EscapeLayer(std::string_view path) {
  std::string layer;
  for (char c : path) {
    if (c == '\\' || c == ':' || c == ',') layer += '\\';
    layer += c;
  }
  return layer;
}

std::string CommonDirectory(const std::vector<std::string>& layers) {
  if (layers.empty()) return "";
  std::string_view common = layers.front();
  for (const std::string& layer : layers) {
    const auto end =
        std::mismatch(common.begin(), common.end(), layer.begin(), layer.end());
    common = common.substr(
        0, static_cast<size_t>(std::distance(common.begin(), end.first)));
  }
  // At a slash: "/s/12" and "/s/13" have "/s" in common, not "/s/1".
  const size_t slash = common.rfind('/');
  if (slash == std::string_view::npos) return "";
  common = common.substr(0, slash);
  while (common.ends_with('/')) common.remove_suffix(1);
  // "/a\/b" has an escaped slash there, which is no place to cut.
  if (common == "." || common.ends_with('\\')) return "";
  return std::string(common);
}

std::vector<std::string> LowerLayers(const std::vector<std::string>& data) {
  const auto lower = std::find_if(
      data.rbegin(), data.rend(),
      [](const std::string& option) { return option.starts_with(kLowerDir); });
  if (lower == data.rend()) return {};
  return SplitLayers(std::string_view(*lower).substr(kLowerDir.size()));
}

std::vector<std::string> WithLowerLayers(
    std::vector<std::string> data, const std::vector<std::string>& layers) {
  std::erase_if(data, [](const std::string& option) {
    return option.starts_with(kLowerDir);
  });
  data.push_back(fmt::format("{}{}", kLowerDir, fmt::join(layers, ":")));
  return data;
}

std::optional<CompactOverlay> CompactLongOverlay(
    const std::vector<std::string>& data) {
  size_t length = 0;
  for (const std::string& option : data) length += option.size();
  if (length < PageSize() - 512) return std::nullopt;

  std::vector<std::string> layers = LowerLayers(data);
  if (layers.size() < 2) return std::nullopt;
  const std::string common = CommonDirectory(layers);
  if (common.empty()) return std::nullopt;
  for (std::string& layer : layers) {
    // Also the empty layer that `::`, the mark of a data-only one, leaves.
    if (layer.size() <= common.size() + 1) return std::nullopt;
    layer.erase(0, common.size() + 1);
    // "a//b" must not turn from relative into absolute.
    if (layer.starts_with('/')) return std::nullopt;
  }
  return CompactOverlay{UnescapeLayer(common) + "/",
                        WithLowerLayers(data, layers)};
}

}  // namespace wisp
