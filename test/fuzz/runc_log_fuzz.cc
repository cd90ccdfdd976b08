// Any log is read; an error at its end is found whatever came before it.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "process/runc_log.h"
#include "process/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)wisp::LastErrorInRuncLog(text);
  const absl::StatusOr<std::optional<std::string>> found =
      wisp::LastErrorInRuncLog(
          text + "\n\"\n{\"level\":\"error\",\"msg\":\"last\"}\n");
  // An object that is still open may swallow the line; it stays readable.
  WISP_CHECK(found.ok() || text.find('{') != std::string::npos);
  if (text.find('{') == std::string::npos) WISP_CHECK(*found == "last");
  return 0;
}
