#include "shim/exit_record.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/json.h"

namespace wisp {
namespace {

// The one thing that absl takes for a time and RFC 3339 does not know is
// infinite-future and its like; white space around it is another.
absl::StatusOr<absl::Time> ParseTimestamp(const std::string& text) {
  absl::Time time;
  std::string error;
  if (text.empty() ||
      !absl::ascii_isdigit(static_cast<unsigned char>(text.front())) ||
      absl::ascii_isspace(static_cast<unsigned char>(text.back())) ||
      !absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return absl::InvalidArgumentError(
        fmt::format("exit record: \"{}\" is no RFC 3339 time", text));
  }
  // Go's zero time stands for "not known".
  if (absl::ToCivilYear(time, absl::UTCTimeZone()).year() <= 1) {
    return absl::InvalidArgumentError("exit record without a time");
  }
  return time;
}

}  // namespace

std::string FormatExitRecord(const ExitRecord& record) {
  // absl counts in quarters of a nanosecond and would print them.
  const absl::Time at = absl::FromUnixNanos(absl::ToUnixNanos(record.at));
  Json json = Json::Object();
  json.Set("Timestamp",
           absl::FormatTime("%E4Y-%m-%dT%H:%M:%E*SZ", at, absl::UTCTimeZone()));
  json.Set("Pid", record.pid);
  json.Set("Status", record.status);
  if (record.guessed) json.Set("Guessed", true);
  return json.Dump();
}

absl::StatusOr<ExitRecord> ParseExitRecord(std::string_view text) {
  absl::StatusOr<Json> json = Json::Parse(text);
  if (!json.ok()) return Prefixed("exit record", json.status());
  ExitRecord record;
  ASSIGN_OR_RETURN(record.at,
                   ParseTimestamp((*json)["Timestamp"].StringOr("")));
  record.guessed = (*json)["Guessed"].BoolOr(false);
  const int64_t pid = (*json)["Pid"].Int64Or(-1);
  const int64_t status = (*json)["Status"].Int64Or(-1);
  if (pid < (record.guessed ? 0 : 1) ||
      pid > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError("exit record without a valid Pid");
  }
  if (status < 0 || status > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError("exit record without a valid Status");
  }
  record.pid = static_cast<uint32_t>(pid);
  record.status = static_cast<uint32_t>(status);
  return record;
}

}  // namespace wisp
