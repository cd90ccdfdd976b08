#include "shim/mount_helper.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "process/fd.h"
#include "process/spawn.h"

namespace wisp {
namespace {

constexpr absl::Duration kLimit = absl::Minutes(1);

// One run; the thread waits for `done`, everything else is the loop's.
struct HelperRun {
  std::vector<std::string> argv;
  UniqueFd output;
  Reaper::Child child;
  EventLoop::TimerHandle limit;

  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  absl::StatusOr<HelperResult> result = HelperResult();

  void Finish(absl::StatusOr<HelperResult> outcome) {
    limit.Reset();
    std::lock_guard<std::mutex> lock(mutex);
    result = std::move(outcome);
    done = true;
    finished.notify_one();
  }
};

absl::Status Start(EventLoop& loop, Reaper& reaper,
                   const std::shared_ptr<HelperRun>& run) {
  SpawnOptions options;
  ASSIGN_OR_RETURN(options.path, FindExecutable(run->argv.front()));
  ASSIGN_OR_RETURN(run->output, MakeMemfd("mount-helper-output"));
  options.argv = run->argv;
  options.env = EnvironmentWithout({"NOTIFY_SOCKET"});
  options.stdout_fd = run->output.get();
  options.stderr_fd = run->output.get();
  // What the helper leaves behind, a FUSE server, does not inherit PDEATHSIG.
  ASSIGN_OR_RETURN(Pidfd pidfd, Spawn(options));
  ASSIGN_OR_RETURN(
      run->child, reaper.Own(std::move(pidfd), [run](const ExitStatus& status) {
        HelperResult result = {.exit_code = static_cast<int>(status.code),
                               .output = ""};
        if (lseek(run->output.get(), 0, SEEK_SET) == 0) {
          if (absl::StatusOr<std::string> text = ReadAll(run->output.get());
              text.ok()) {
            result.output = *std::move(text);
          }
        }
        run->Finish(std::move(result));
      }));
  run->limit = loop.After(kLimit, [weak = std::weak_ptr(run)] {
    const std::shared_ptr<HelperRun> late = weak.lock();
    if (late != nullptr && late->child.pidfd() != nullptr) {
      kill(-late->child.pid(), SIGKILL);
    }
  });
  return absl::OkStatus();
}

}  // namespace

HelperRunner MakeMountHelperRunner(EventLoop& loop, Reaper& reaper) {
  return [&loop, &reaper](const std::vector<std::string>& argv)
             -> absl::StatusOr<HelperResult> {
    const auto run = std::make_shared<HelperRun>();
    run->argv = argv;
    loop.Post([&loop, &reaper, run] {
      if (absl::Status started = Start(loop, reaper, run); !started.ok()) {
        run->Finish(std::move(started));
      }
    });
    std::unique_lock<std::mutex> lock(run->mutex);
    run->finished.wait(lock, [&run] { return run->done; });
    return run->result;
  };
}

}  // namespace wisp
