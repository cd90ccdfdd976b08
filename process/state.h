// What may be done to a process in which state, on one screen.
//
// The states and texts are those of containerd's runc shim
// (cmd/containerd-shim-runc-v2/process/{init_state,exec_state}.go@v2.4.2).
#ifndef WISP_PROCESS_STATE_H_
#define WISP_PROCESS_STATE_H_

#include <cstdint>

#include "process/status_macros.h"

namespace wisp {

enum class InitState : uint8_t {
  kCreated,
  kCreatedCheckpoint,  // made from a checkpoint, not restored yet
  kRunning,
  kPaused,
  kStopped,
  kDeleted,
};
inline constexpr int kInitStates = 6;

enum class ExecState : uint8_t { kCreated, kRunning, kStopped, kDeleted };
inline constexpr int kExecStates = 4;

enum class Operation : uint8_t {
  kStart,
  kPause,
  kResume,
  kUpdate,
  kCheckpoint,
  kExec,
  kKill,
  kDelete,
  kResize,
};
inline constexpr int kOperations = 9;

// containerd.v1.types.Status, by its numbers.
enum class TaskStatus : uint8_t {
  kUnknown = 0,
  kCreated = 1,
  kRunning = 2,
  kStopped = 3,
  kPaused = 4,
  kPausing = 5,
};

// OK, or why not: kNotFound for a deleted process, else kFailedPrecondition.
absl::Status Check(InitState state, Operation operation);
// The operations that an exec knows: start, kill, delete, resize.
absl::Status Check(ExecState state, Operation operation);

TaskStatus StatusOf(InitState state);
TaskStatus StatusOf(ExecState state);

}  // namespace wisp

#endif  // WISP_PROCESS_STATE_H_
