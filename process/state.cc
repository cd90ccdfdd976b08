#include "process/state.h"

#include <string>

namespace wisp {
namespace {

// nullptr: allowed. The rows are operations, the columns states.
// clang-format off
constexpr const char* kInitTable[kOperations][kInitStates] = {
//  created                                   createdCheckpoint                         running                              paused                                 stopped                                  deleted
/* Start */
  {nullptr,                                  nullptr,                                  "cannot start a running process",    "cannot start a paused process",       "cannot start a stopped process",        "cannot start a deleted process"},
/* Pause */
  {"cannot pause task in created state",     "cannot pause task in created state",     nullptr,                             "cannot pause a paused container",     "cannot pause a stopped container",      "cannot pause a deleted process"},
/* Resume */
  {"cannot resume task in created state",    "cannot resume task in created state",    "cannot resume a running process",   nullptr,                               "cannot resume a stopped container",     "cannot resume a deleted process"},
/* Update */
  {nullptr,                                  nullptr,                                  nullptr,                             nullptr,                               "cannot update a stopped container",     "cannot update a deleted process"},
/* Checkpoint */
  {"cannot checkpoint a task in created state", "cannot checkpoint a task in created state", nullptr,                       nullptr,                               "cannot checkpoint a stopped container", "cannot checkpoint a deleted process"},
/* Exec */
  {nullptr,                                  "cannot exec in a created state",         nullptr,                             "cannot exec in a paused state",       "cannot exec in a stopped state",        "cannot exec in a deleted state"},
/* Kill */
  {nullptr,                                  nullptr,                                  nullptr,                             nullptr,                               nullptr,                                 "cannot kill a deleted process"},
/* Delete */
  {nullptr,                                  nullptr,                                  "cannot delete a running process",   "cannot delete a paused process",      nullptr,                                 "cannot delete a deleted process"},
/* Resize */
  {nullptr,                                  nullptr,                                  nullptr,                             nullptr,                               nullptr,                                 nullptr},
};

constexpr const char* kNoExecOperation = "no operation of an exec";
constexpr const char* kExecTable[kOperations][kExecStates] = {
//  created            running                            stopped                                 deleted
/* Start */
  {nullptr,           "cannot start a running process",  "cannot start a stopped process",       "cannot start a deleted process"},
/* Pause */
  {kNoExecOperation,  kNoExecOperation,                  kNoExecOperation,                       kNoExecOperation},
/* Resume */
  {kNoExecOperation,  kNoExecOperation,                  kNoExecOperation,                       kNoExecOperation},
/* Update */
  {kNoExecOperation,  kNoExecOperation,                  kNoExecOperation,                       kNoExecOperation},
/* Checkpoint */
  {kNoExecOperation,  kNoExecOperation,                  kNoExecOperation,                       kNoExecOperation},
/* Exec */
  {kNoExecOperation,  kNoExecOperation,                  kNoExecOperation,                       kNoExecOperation},
/* Kill */
  {nullptr,           nullptr,                           "process already finished",             "cannot kill a deleted process"},
/* Delete */
  {nullptr,           "cannot delete a running process", nullptr,                                "cannot delete a deleted process"},
/* Resize */
  {nullptr,           nullptr,                           "cannot resize a stopped container",    "cannot resize a deleted process"},
};
// clang-format on

// What is gone cannot be killed or deleted: clients read NotFound as "done".
bool MeansGone(Operation operation, bool deleted, bool stopped_exec) {
  if (operation == Operation::kKill) return deleted || stopped_exec;
  return operation == Operation::kDelete && deleted;
}

absl::Status ToStatus(const char* refusal, bool gone) {
  if (refusal == nullptr) return absl::OkStatus();
  return gone ? absl::NotFoundError(refusal)
              : absl::FailedPreconditionError(refusal);
}

}  // namespace

absl::Status Check(InitState state, Operation operation) {
  return ToStatus(
      kInitTable[static_cast<int>(operation)][static_cast<int>(state)],
      MeansGone(operation, state == InitState::kDeleted, false));
}

absl::Status Check(ExecState state, Operation operation) {
  return ToStatus(
      kExecTable[static_cast<int>(operation)][static_cast<int>(state)],
      MeansGone(operation, state == ExecState::kDeleted,
                state == ExecState::kStopped));
}

TaskStatus StatusOf(InitState state) {
  switch (state) {
    case InitState::kCreated:
    case InitState::kCreatedCheckpoint:
      return TaskStatus::kCreated;
    case InitState::kRunning:
      return TaskStatus::kRunning;
    case InitState::kPaused:
      return TaskStatus::kPaused;
    case InitState::kStopped:
    case InitState::kDeleted:
      return TaskStatus::kStopped;
  }
  return TaskStatus::kUnknown;
}

TaskStatus StatusOf(ExecState state) {
  switch (state) {
    case ExecState::kCreated:
      return TaskStatus::kCreated;
    case ExecState::kRunning:
      return TaskStatus::kRunning;
    case ExecState::kStopped:
    case ExecState::kDeleted:
      return TaskStatus::kStopped;
  }
  return TaskStatus::kUnknown;
}

}  // namespace wisp
