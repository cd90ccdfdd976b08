#include "shim/checkpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "fmt/format.h"
#include "process/fd.h"
#include "shim/log.h"

namespace wisp {
namespace {

// CRIU's directory is flat. What it does not hold by nature is left alone, and
// then the directory as well: nothing of ours removes a tree.
void RemoveFlatDirectory(const std::string& path) {
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) {
    unlinkat(dirfd(directory), entry->d_name, 0);
  }
  closedir(directory);
  rmdir(path.c_str());
}

absl::Status CopyFile(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(from));
  return WriteFileAtomically(to, content, 0600, /*sync=*/false);
}

}  // namespace

void CheckpointContainer(std::shared_ptr<Container> container,
                         CheckpointOptions options,
                         const Container::Environment& extra_env,
                         DoneStatus done) {
  const bool own_work_path = options.work_path.empty();
  if (own_work_path) {
    options.work_path = container->bundle().work() + "/criu-work";
  }
  const std::string work_path = options.work_path;
  Container* const self = container.get();
  self->init().Checkpoint(
      std::move(options), extra_env,
      [container = std::move(container), work_path, own_work_path,
       done = std::move(done)](absl::Status status) mutable {
        // Refused by the state, or never tried.
        const bool ran =
            status.code() != absl::StatusCode::kFailedPrecondition &&
            status.code() != absl::StatusCode::kUnimplemented;
        if (!status.ok() && ran) {
          const std::string kept = container->bundle().Path("criu-dump.log");
          if (absl::Status copied = CopyFile(work_path + "/dump.log", kept);
              !copied.ok()) {
            LogError("failed to copy dump.log to criu-dump.log",
                     {{"id", container->config().id}, {"error", copied}});
          }
          const std::string_view words = Message(status);
          status = absl::Status(
              status.code(),
              fmt::format("{} path= {}", words.substr(0, words.find('\n')),
                          kept));
        }
        if (own_work_path) RemoveFlatDirectory(work_path);
        std::move(done)(status);
      });
}

}  // namespace wisp
