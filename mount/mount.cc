#include "mount/mount.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <utility>

#include "fmt/format.h"
#include "mount/fs_context.h"
#include "mount/id_map.h"
#include "mount/loop_device.h"
#include "mount/overlay.h"
#include "mount/unmount.h"
#include "process/fd.h"

namespace wisp {
namespace {

// What is left to do once source and layers are settled.
struct Step {
  std::string source;
  std::string target;
  std::string type;
  unsigned long flags = 0;
  std::vector<std::string> data;
  std::string directory;  // empty: the current one will do
};

absl::Status MountFailed(const Step& step, std::string_view data,
                         const absl::Status& why) {
  return absl::Status(
      why.code(),
      fmt::format("mount source: {}, target: {}, fstype: {}, flags: {}, "
                  "data: {}, {}",
                  Quoted(step.source), Quoted(step.target), step.type,
                  step.flags, Quoted(data), Message(why)));
}

// In the current directory of the current thread.
absl::Status MountHere(const Step& step) {
  const std::string data = JoinMountData(step.data);
  if (data.size() > MaxMountData()) {
    absl::Status status = absl::UnimplementedError("");
    if (step.type == "overlay" && (step.flags & MS_REMOUNT) == 0) {
      status = MountOverlayLayerByLayer(step.source, step.target, step.flags,
                                        step.data);
    }
    if (absl::IsUnimplemented(status)) {
      return absl::InvalidArgumentError("mount options is too long");
    }
    if (status.ok()) return status;
    return MountFailed(step, data, Prefixed("err", status));
  }
  // A remount without data changes flags only, which for a bind comes later.
  if ((step.flags & MS_REMOUNT) != 0 && data.empty()) return absl::OkStatus();
  if (mount(step.source.c_str(), step.target.c_str(), step.type.c_str(),
            step.flags, data.c_str()) != 0) {
    return MountFailed(step, data, ErrnoStatus(errno, "err"));
  }
  return absl::OkStatus();
}

absl::Status MountInDirectory(const Step& step) {
  if (unshare(CLONE_FS) != 0) return ErrnoStatus(errno, "unshare CLONE_FS");
  if (chdir(step.directory.c_str()) != 0) {
    return ErrnoStatus(errno, fmt::format("chdir {}", step.directory));
  }
  return MountHere(step);
}

// Relative layers need a directory, and a thread that has left the others'
// cannot share it with them again: one that ends here.
absl::Status MountInThread(const Step& step) {
  struct Call {
    const Step& step;
    absl::Status status;
  } call{step, absl::OkStatus()};
  pthread_t thread;
  const int error = pthread_create(
      &thread, nullptr,
      [](void* argument) -> void* {
        Call& own = *static_cast<Call*>(argument);
        own.status = MountInDirectory(own.step);
        return nullptr;
      },
      &call);
  if (error != 0) return ErrnoStatus(error, "start a thread to mount");
  pthread_join(thread, nullptr);
  return call.status;
}

bool InUserNamespace() {
  const absl::StatusOr<std::string> map = ReadFile("/proc/self/uid_map");
  if (!map.ok()) return false;
  unsigned inside = 0, outside = 0, size = 0;
  return sscanf(map->c_str(), "%u %u %u", &inside, &outside, &size) != 3 ||
         inside != 0 || outside != 0 || size != UINT32_MAX;
}

// In a user namespace a bind inherits flags that a remount may not drop.
unsigned long LockedFlags(const std::string& target) {
  static constexpr std::pair<unsigned long, unsigned long> kFlags[] = {
      {ST_RDONLY, MS_RDONLY},         {ST_NODEV, MS_NODEV},
      {ST_NOEXEC, MS_NOEXEC},         {ST_NOSUID, MS_NOSUID},
      {ST_NOATIME, MS_NOATIME},       {ST_RELATIME, MS_RELATIME},
      {ST_NODIRATIME, MS_NODIRATIME},
  };
  struct statvfs info;
  if (!InUserNamespace() || statvfs(target.c_str(), &info) != 0) return 0;
  unsigned long flags = 0;
  for (const auto& [shown, flag] : kFlags) {
    if ((info.f_flag & shown) != 0) flags |= flag;
  }
  return flags;
}

// What mount(2) cannot do in the same call: propagation, and `ro` of a bind.
absl::Status Finish(const std::string& target, unsigned long flags,
                    unsigned long propagation) {
  if (propagation != 0 &&
      mount("", target.c_str(), "", propagation, nullptr) != 0) {
    return ErrnoStatus(errno, fmt::format("set propagation of {}", target));
  }
  constexpr unsigned long kReadOnlyBind = MS_BIND | MS_RDONLY;
  if ((flags & kReadOnlyBind) != kReadOnlyBind) return absl::OkStatus();
  const unsigned long remount = flags | MS_REMOUNT | LockedFlags(target);
  if (mount("", target.c_str(), "", remount, nullptr) != 0) {
    return ErrnoStatus(errno, fmt::format("remount {} read-only", target));
  }
  return absl::OkStatus();
}

// The lower layers of an overlay, id-mapped for as long as it takes to mount
// it: the overlay holds clones of its own from then on.
class MappedLayers {
 public:
  explicit MappedLayers(const MountContext& context) : context_(context) {
    context_.cancelled = nullptr;  // what is undone is undone
    context_.run_helper = nullptr;
  }
  MappedLayers(const MappedLayers&) = delete;
  MappedLayers& operator=(const MappedLayers&) = delete;
  ~MappedLayers() { (void)Undo(); }

  // Maps them and rewrites `data` to name the mapped ones.
  absl::Status Map(int user_namespace, std::vector<std::string>& data) {
    std::vector<std::string> layers = LowerLayers(data);
    const std::string common = CommonDirectory(layers);
    if (common.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("invalid common directory {}", Quoted(common)));
    }
    std::string name = context_.temporary_directory + "/ovl-idmapped-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      return ErrnoStatus(errno, fmt::format("mkdtemp {}", name));
    }
    directory_ = name;
    // Read-only: whoever deletes through it by mistake deletes nothing.
    RETURN_IF_ERROR(MakeIdMappedMount(UnescapeLayer(common), directory_,
                                      user_namespace, /*read_only=*/true));
    for (std::string& layer : layers) {
      layer.replace(0, common.size(), EscapeLayer(directory_));
    }
    data = WithLowerLayers(std::move(data), layers);
    return absl::OkStatus();
  }

  absl::Status Undo() {
    if (directory_.empty()) return absl::OkStatus();
    const std::string directory = std::exchange(directory_, "");
    RETURN_IF_ERROR(UnmountRecursive(directory, context_));
    // rmdir of what should be empty; if it is not, it stays.
    if (rmdir(directory.c_str()) != 0) {
      return ErrnoStatus(errno, fmt::format("rmdir {}", directory));
    }
    return absl::OkStatus();
  }

 private:
  MountContext context_;
  std::string directory_;
};

absl::StatusOr<UniqueFd> UserNamespaceFor(const MountOptions& options) {
  ASSIGN_OR_RETURN(std::vector<IdRange> uids, ParseIdMap(options.uid_map));
  ASSIGN_OR_RETURN(std::vector<IdRange> gids, ParseIdMap(options.gid_map));
  return MakeUserNamespace(uids, gids);
}

absl::Status MakeFuseMount(const std::vector<std::string>& command,
                           const MountContext& context) {
  if (context.run_helper == nullptr) {
    return absl::UnimplementedError(fmt::format(
        "FUSE mounts need a helper process: {}", fmt::join(command, " ")));
  }
  const std::string what =
      fmt::format("mount helper [{}] failed", fmt::join(command, " "));
  const absl::StatusOr<HelperResult> result = (*context.run_helper)(command);
  if (!result.ok()) return Prefixed(what + ": \"\"", result.status());
  if (result->exit_code == 0) return absl::OkStatus();
  return absl::UnknownError(fmt::format("{}: {}: exit status {}", what,
                                        Quoted(result->output),
                                        result->exit_code));
}

}  // namespace

std::optional<std::vector<std::string>> FuseHelperCommand(
    const Mount& mount, const std::string& target) {
  for (const char* family : {"fuse3", "fuse"}) {
    const std::string prefix = fmt::format("{}.", family);
    if (!mount.type.starts_with(prefix)) continue;
    std::vector<std::string> command = {fmt::format("mount.{}", family),
                                        mount.source, target};
    for (const std::string& option : mount.options) {
      command.insert(command.end(), {"-o", option});
    }
    command.insert(command.end(), {"-t", mount.type.substr(prefix.size())});
    return command;
  }
  return std::nullopt;
}

absl::Status MakeMount(const Mount& mount, const std::string& target,
                       const MountContext& context) {
  ASSIGN_OR_RETURN(const MountOptions options,
                   ParseMountOptions(mount.options));
  if (const auto command = FuseHelperCommand(mount, target)) {
    return MakeFuseMount(*command, context);
  }
  Step step{mount.source, target, mount.type, options.flags, options.data, ""};
  const bool overlay = mount.type == "overlay";

  UniqueFd user_namespace;
  MappedLayers mapped(context);
  if (!options.uid_map.empty() && !options.gid_map.empty()) {
    const char* what = overlay ? "failed to prepare idmapped overlay"
                               : "failed to create idmapped mount";
    absl::StatusOr<UniqueFd> made = UserNamespaceFor(options);
    if (!made.ok()) return Prefixed(what, made.status());
    user_namespace = *std::move(made);
    if (overlay) {
      RETURN_IF_ERROR(
          Prefixed(what, mapped.Map(user_namespace.get(), step.data)));
    }
  }

  LoopDevice loop;
  if (options.loop) {
    ASSIGN_OR_RETURN(
        loop, AttachLoopDevice(mount.source, (options.flags & MS_RDONLY) != 0,
                               options.direct_io, context));
    step.source = loop.path;
  }
  if (context.is_cancelled()) return absl::CancelledError("mount: cancelled");

  if (overlay) {
    if (std::optional<CompactOverlay> compact = CompactLongOverlay(step.data)) {
      step.data = std::move(compact->data);
      step.directory = std::move(compact->directory);
    }
  }
  RETURN_IF_ERROR(step.directory.empty() ? MountHere(step)
                                         : MountInThread(step));

  absl::Status status = Finish(target, options.flags, options.propagation);
  if (status.ok() && user_namespace.valid() && !overlay) {
    // After `ro`, which the clone keeps: containerd leaves read-only binds
    // unmapped.
    status = Prefixed("failed to create idmapped mount",
                      MakeIdMappedMount(target, target, user_namespace.get(),
                                        /*read_only=*/false));
  }
  if (status.ok()) status = mapped.Undo();
  if (!status.ok() && (options.flags & MS_REMOUNT) == 0) {
    MountContext undo = context;
    undo.cancelled = nullptr;
    (void)UnmountOne(target, undo);
  }
  return status;
}

}  // namespace wisp
