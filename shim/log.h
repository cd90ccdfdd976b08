// The log, our only global.
//
// containerd copies what comes out of a shim's fifo to its own stderr as it is,
// so lines look like those of Go's shim (logrus): time, level, msg, then the
// other keys in alphabetical order. Only the edge logs: handlers, and what runs
// in the background. The loop's thread only.
#ifndef WISP_SHIM_LOG_H_
#define WISP_SHIM_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "process/fd.h"
#include "process/status_macros.h"
#include "shim/log_line.h"

namespace wisp {

// LogWarning("cannot unmount", {{"path", path}, {"error", status}}).
void LogDebug(std::string_view message, LogFields fields = {});
void LogInfo(std::string_view message, LogFields fields = {});
void LogWarning(std::string_view message, LogFields fields = {});
void LogError(std::string_view message, LogFields fields = {});

// Where lines go: `fd`, which stays the caller's and open; before the first
// call, fd 2. Each line is one write of at most PIPE_BUF bytes, so lines of
// several writers never mix. What does not fit into a non-blocking fd is
// dropped and counted, and the count told when there is room again: a daemon
// that has stopped reading must not stop us.
void SetLogOutput(int fd);
// Debug lines are written only if this is set, but always remembered.
void SetLogDebug(bool debug);
bool LogsDebug();

// Opens the bundle's fifo so that nothing about it can stop the shim: reading
// and writing, since write-only fails while no daemon lives (ENXIO) and gets
// EPIPE later; non-blocking; and never made anew, which would fill the tmpfs.
absl::StatusOr<UniqueFd> OpenLogFifo(const std::string& path);

// The last lines, up to 100, for a dump on request. With newlines.
std::vector<std::string> RecentLogLines();
// How many lines were dropped since the start.
uint64_t DroppedLogLines();

}  // namespace wisp

#endif  // WISP_SHIM_LOG_H_
