// What OCI runtimes say in words of their own, where an exit status says too
// little.
//
// runc, crun and youki share the commands and most of the flags that
// containerd's shim uses. Not all know (runc 1.1 to 1.5, crun 1.28, youki 0.7):
//
//   restore     --no-subreaper, --no-pivot: runc only; --parent-path: none
//   checkpoint  --parent-path: runc, crun; --empty-ns: runc
//
// youki has no restore, and its checkpoint goes by another name; there are
// runtimes without pause, ps or update.
#ifndef WISP_PROCESS_RUNTIME_WORDS_H_
#define WISP_PROCESS_RUNTIME_WORDS_H_

#include <string_view>

namespace wisp {

// Whether `help`, the output of `BINARY VERB --help`, names `flag` (with its
// dashes). What names no flag at all is no help, and the runtime taken for
// runc.
bool HelpNames(std::string_view help, std::string_view flag);

// Of the output and the log of a command that failed: whether the runtime
// complains that it has no command `verb`, that it does not know the container,
// that the process to be killed has gone.
bool SaysUnknownCommand(std::string_view words, std::string_view verb);
bool SaysUnknownContainer(std::string_view words);
bool SaysProcessGone(std::string_view words);

}  // namespace wisp

#endif  // WISP_PROCESS_RUNTIME_WORDS_H_
