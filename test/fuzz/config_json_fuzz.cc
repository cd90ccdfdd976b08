// Any text is JSON or is refused; what is JSON can be asked anything, and says
// the same after it was printed. Likewise the small files of the bundle.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "process/json.h"
#include "process/pidfd.h"
#include "process/status_macros.h"
#include "shim/bundle.h"
#include "shim/exit_record.h"

namespace wisp {
namespace {

void Visit(const JsonView& value) {
  (void)value.AsString();
  (void)value.AsBool();
  (void)value.AsInt64();
  (void)value.AsUint64();
  (void)value.AsDouble();
  WISP_CHECK(!value["absent"]["deeper"].at(1).exists() || value.is_object());
  WISP_CHECK(!value.at(value.size()).exists());
  for (const JsonView& element : value.elements()) Visit(element);
  for (const auto& [key, member] : value.members()) {
    WISP_CHECK(value[key].exists() == member.exists());
    Visit(member);
  }
}

void Check(std::string_view text) {
  const absl::StatusOr<Json> json = Json::Parse(text);
  if (json.ok()) {
    Visit(json->view());
    (void)GroupOfConfig(*json);
    const std::string printed = json->Dump();
    const absl::StatusOr<Json> again = Json::Parse(printed);
    WISP_CHECK(again.ok());
    WISP_CHECK(again->Dump() == printed);
  }
  if (const absl::StatusOr<ExitRecord> record = ParseExitRecord(text);
      record.ok()) {
    const absl::StatusOr<ExitRecord> again =
        ParseExitRecord(FormatExitRecord(*record));
    // What lies beyond 64 bits of nanoseconds is not kept.
    if (again.ok()) {
      WISP_CHECK(again->pid == record->pid && again->status == record->status);
    }
  }
  if (const absl::StatusOr<RuncOptions> options = ParseOptionsJson(text);
      options.ok()) {
    const absl::StatusOr<RuncOptions> again =
        ParseOptionsJson(FormatOptionsJson(*options));
    WISP_CHECK(again.ok() && *again == *options);
  }
  (void)ParsePidFile(text);
}

}  // namespace
}  // namespace wisp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wisp::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
