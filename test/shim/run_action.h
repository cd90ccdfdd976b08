// Runs an action of the program in a child of its own: with pipes for stdio and
// a directory, as containerd does.
#ifndef WISP_TEST_SHIM_RUN_ACTION_H_
#define WISP_TEST_SHIM_RUN_ACTION_H_

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "process/fd.h"
#include "shim/options.h"

namespace wisp {

struct ActionResult {
  int exit_code = -1;
  std::string output;  // stdout, read until nobody holds it any more
  std::string errors;
};

using Action = int (*)(const ShimOptions&);

class RunningAction {
 public:
  RunningAction(Action action, const ShimOptions& options,
                const std::string& directory, const std::string& input) {
    Pipe in = *MakePipe();
    Pipe out = *MakePipe();
    Pipe err = *MakePipe();
    pid_ = fork();
    if (pid_ == 0) {
      if (chdir(directory.c_str()) != 0) _exit(99);
      dup2(in.read_end.get(), 0);
      dup2(out.write_end.get(), 1);
      dup2(err.write_end.get(), 2);
      for (UniqueFd* fd : {&in.read_end, &in.write_end, &out.read_end,
                           &out.write_end, &err.read_end, &err.write_end}) {
        fd->Reset();
      }
      _exit(action(options));
    }
    (void)WriteAll(in.write_end.get(), input);
    output_ = std::move(out.read_end);
    errors_ = std::move(err.read_end);
  }
  pid_t pid() const { return pid_; }

  ActionResult Finish() {
    ActionResult result;
    result.output = ReadAll(output_.get()).value_or("(error)");
    result.errors = ReadAll(errors_.get()).value_or("(error)");
    int status = 0;
    waitpid(pid_, &status, 0);
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    return result;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd output_;
  UniqueFd errors_;
};

inline ActionResult RunAction(Action action, const ShimOptions& options,
                              const std::string& directory,
                              const std::string& input = "") {
  return RunningAction(action, options, directory, input).Finish();
}

}  // namespace wisp

#endif  // WISP_TEST_SHIM_RUN_ACTION_H_
