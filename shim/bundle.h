// The bundle: a container's directory, and the files in it by name.
//
// Their formats are those of Go's shim, byte for byte where it matters: after a
// restart containerd may run Go's `delete` on a bundle of ours, or ours on one
// of Go's.
#ifndef WISP_SHIM_BUNDLE_H_
#define WISP_SHIM_BUNDLE_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "process/json.h"
#include "process/runc_options.h"
#include "process/status_macros.h"
#include "shim/exit_record.h"

namespace wisp {

// A path and what can be done with it: copy it freely. Every reader answers
// kNotFound if there is no such file.
class Bundle {
 public:
  // Absolute, unless the process stays in one directory (`start` does).
  explicit Bundle(std::string directory) : directory_(std::move(directory)) {}

  const std::string& directory() const { return directory_; }
  std::string Path(std::string_view name) const;
  std::string config() const { return Path("config.json"); }
  std::string rootfs() const { return Path("rootfs"); }
  std::string work() const { return Path("work"); }
  std::string log_fifo() const { return Path("log"); }
  std::string runtime_log() const { return Path("log.json"); }
  std::string init_pid() const { return Path("init.pid"); }
  std::string exec_pid(std::string_view exec_id) const;

  // config.json.
  absl::StatusOr<Json> ReadConfig() const;

  // `runtime` (0600): the runtime's name, maybe empty.
  absl::Status WriteRuntime(std::string_view binary_name) const;
  absl::StatusOr<std::string> ReadRuntime() const;

  // `options.json` (0600).
  absl::Status WriteOptions(const RuncOptions& options) const;
  absl::StatusOr<RuncOptions> ReadOptions() const;

  // `address` (0644), without a newline, which 1.x daemons would dial.
  absl::Status WriteAddress(std::string_view address) const;
  absl::StatusOr<std::string> ReadAddress() const;
  void RemoveAddress() const;

  // `s`: a symlink to where the sockets are, for Go's shim.
  absl::Status LinkSocketDirectory(const std::string& target) const;
  absl::StatusOr<std::string> ReadSocketDirectory() const;

  // `creating`: there from before a runtime is run that did not know the
  // container until what it has done is known. A shim that is killed meanwhile
  // leaves it, so what that runtime left is ours, whatever it says.
  absl::Status MarkCreating() const;
  void UnmarkCreating() const;
  bool IsMarkedCreating() const;

  // `init.pid`, which the runtime writes.
  absl::StatusOr<pid_t> ReadInitPid() const;

  // `exit.json` (0600). With `sync` it may take as long as the disk likes; on
  // tmpfs (OnTmpfs) syncing gains nothing.
  absl::Status WriteExitRecord(const ExitRecord& record, bool sync) const;
  // The same, but a valid record that is there already, or appears meanwhile,
  // wins; returns the one that counts now.
  absl::StatusOr<ExitRecord> WriteExitRecordIfNone(const ExitRecord& record,
                                                   bool sync) const;
  // Error: kNotFound, or kInvalidArgument for one that does not count.
  absl::StatusOr<ExitRecord> ReadExitRecord() const;

 private:
  std::string directory_;
};

// Go's keys, without those whose value is zero: `{}` for the defaults.
std::string FormatOptionsJson(const RuncOptions& options);
// Unknown keys are passed over. Error: kInvalidArgument.
absl::StatusOr<RuncOptions> ParseOptionsJson(std::string_view text);

// The annotation that puts containers into one shim
// (io.containerd.wisp.v2.group first, then those of Go's shim), or nothing.
// Error: kInvalidArgument if it is no text.
absl::StatusOr<std::optional<std::string>> GroupOfConfig(const Json& config);

// linux.cgroupsPath, if it names a cgroup by its path from the root; with
// systemd it is something else. Empty otherwise.
std::string CgroupsPathOfConfig(const Json& config);

// True if `directory` is on tmpfs or ramfs: what is written there is as durable
// as it will ever be.
bool OnTmpfs(const std::string& directory);

}  // namespace wisp

#endif  // WISP_SHIM_BUNDLE_H_
