// What a client's stdio strings ask for.
#ifndef WISP_PROCESS_STDIO_PLAN_H_
#define WISP_PROCESS_STDIO_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// The stdio of one process as the client asked for it, strings untouched.
struct StdioRequest {
  bool terminal = false;
  std::string stdin_path;
  std::string stdout_path;
  std::string stderr_path;
  uint32_t io_uid = 0;  // who shall own the container's ends of the pipes
  uint32_t io_gid = 0;
  std::string process_id;    // exec id, or the container's
  std::string container_ns;  // containerd's namespace; for a logger
};

// A logging binary, as a binary:// or binary-v2:// URI names it.
struct LoggerCommand {
  std::string path;
  // Each query key and its first value, in the order of the URI.
  std::vector<std::string> arguments;
  // binary-v2: only a byte on its ready pipe counts. Else also its end, so one
  // that dies at once counts as ready.
  bool must_say_ready = false;
};

struct StdioPlan {
  enum class Mode { kNull, kFifo, kFile, kLogger, kTerminal };
  Mode mode = Mode::kNull;
  // Empty: /dev/null. With kFile stdout_path is the file for both.
  std::string stdin_path;
  std::string stdout_path;
  std::string stderr_path;
  // With kLogger, and with kTerminal if path is not empty.
  LoggerCommand logger;
};

// Only the scheme of stdout decides, as in containerd's shim
// (cmd/containerd-shim-runc-v2/process/io.go@v2.4.2); unlike there, fifo://
// URIs and single empty streams work. Errors: `unknown STDIO scheme X`, `unable
// to parse stdout uri: ...`.
absl::StatusOr<StdioPlan> PlanStdio(const StdioRequest& request);

}  // namespace wisp

#endif  // WISP_PROCESS_STDIO_PLAN_H_
