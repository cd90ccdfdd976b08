// Any command line is parsed or refused, and what was parsed is parsed again
// when it is written down in the plainest form.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "process/status_macros.h"
#include "shim/options.h"

namespace wisp {
namespace {

absl::StatusOr<ShimOptions> Parse(const std::vector<std::string>& words) {
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  return ParseOptions(static_cast<int>(words.size()), argv.data(), nullptr);
}

void Check(std::string_view data) {
  std::vector<std::string> words = {"shim"};
  while (!data.empty()) {
    const size_t end = data.find('\n');
    words.emplace_back(data.substr(0, end));
    // A word of a command line holds no NUL.
    words.back() = words.back().c_str();
    data.remove_prefix(end == data.npos ? data.size() : end + 1);
  }
  const absl::StatusOr<ShimOptions> options = Parse(words);
  if (!options.ok()) {
    WISP_CHECK(options.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  (void)ValidateIdentifier(options->id);
  if (CheckNamespace(*options).ok()) {
    WISP_CHECK(options->namespace_name.find('/') == std::string::npos);
  }
  if (options->help) return;
  const absl::StatusOr<ShimOptions> again =
      Parse({"shim", "--namespace=" + options->namespace_name, "-id",
             options->id, options->debug ? "-debug=T" : "-debug=F"});
  WISP_CHECK(again.ok());
  WISP_CHECK(again->namespace_name == options->namespace_name);
  WISP_CHECK(again->id == options->id);
  WISP_CHECK(again->debug == options->debug);
}

}  // namespace
}  // namespace wisp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wisp::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
