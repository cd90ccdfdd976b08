// Whether a process that has just been let go has come to rest.
#ifndef WISP_PROCESS_SETTLED_H_
#define WISP_PROCESS_SETTLED_H_

#include <sys/types.h>

#include <string_view>

namespace wisp {

// True once `pid` has executed a program since it was forked and is asleep in
// it, waiting for something: a shell for its first child, a server for its
// first request. Also true if it has stopped or ended, and if the kernel does
// not tell. A process that a checkpoint was restored to has executed nothing.
bool HasSettled(pid_t pid);

// The same from the content of its /proc/PID/stat.
bool IsSettled(std::string_view stat);

}  // namespace wisp

#endif  // WISP_PROCESS_SETTLED_H_
