// Times on the wire.
#ifndef WISP_SHIM_TIMESTAMPS_H_
#define WISP_SHIM_TIMESTAMPS_H_

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace wisp {

// absl::InfinitePast() is "never" and becomes Go's zero time, the year 1, which
// containerd's clients test for: a missing timestamp would read as 1970
// (pkg/protobuf/timestamp.go@v2.4.2).
inline google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp stamp;
  if (time == absl::InfinitePast()) {
    stamp.set_seconds(-62135596800);
    return stamp;
  }
  const timespec parts = absl::ToTimespec(time);
  stamp.set_seconds(parts.tv_sec);
  stamp.set_nanos(static_cast<int32_t>(parts.tv_nsec));
  return stamp;
}

}  // namespace wisp

#endif  // WISP_SHIM_TIMESTAMPS_H_
