// Carries random schedules out against a shim, and judges what it did.
#ifndef WISP_TEST_SUPPORT_SCHEDULE_H_
#define WISP_TEST_SUPPORT_SCHEDULE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "process/fd.h"
#include "test/support/order.h"
#include "test/support/rare_things.h"
#include "test/support/schedule_plan.h"
#include "test/support/test_shim.h"

namespace wisp {

// The schedules of one shim.
class ScheduleRunner {
 public:
  // The runtime's limits for create, start and exec in the shim's environment
  // have to be short: there are schedules that wait for them. Both outlive it.
  ScheduleRunner(TestShim& shim, Tally& tally);
  ScheduleRunner(const ScheduleRunner&) = delete;
  ScheduleRunner& operator=(const ScheduleRunner&) = delete;

  // Carries a plan out to its end, when nothing is left of it. Returns what was
  // wrong, a line each.
  std::vector<std::string> Run(const Plan& plan);
  // The same for the stream of all schedules together: something may have come
  // late.
  std::vector<std::string> FindLateFaults() const;

 private:
  // A call, from the question to the answer.
  struct Asked {
    Step step;
    absl::Time at;
    absl::Time answered_at = absl::InfiniteFuture();
    absl::Status status = absl::UnknownError("no answer yet");
    Outcome outcome = Outcome::kNotAsked;

    bool answered() const { return outcome != Outcome::kNotAsked; }
  };
  // `payload` is empty unless the call has succeeded.
  using OnAnswer =
      std::function<void(const Asked& asked, const std::string& payload)>;

  void Do(const Step& step);
  void Ask(const Step& step);
  void Create(const Step& step);
  void Exec(const Step& step);
  void Start(const Step& step);
  void Kill(const Step& step);
  void Delete(const Step& step);
  void Wait(const Step& step);
  void State(const Step& step);
  void Disconnect(int client);
  void OpenReader(const ProcessName& exec);
  void Send(const Step& step, std::string_view method,
            const google::protobuf::MessageLite& request, OnAnswer on_answer);
  void Judge(Asked* asked, const absl::Status& status);
  // What a call without a deadline must come to: one of these codes.
  absl::StatusCode Must(Step::Op op, const ProcessName& process,
                        const std::set<absl::StatusCode>& codes,
                        int signal = 0);

  // From now on init may be dead, and all that is in its container.
  void InitMayDie(const std::string& container);
  bool InFlight(const ProcessName& process) const;
  bool HasEnded(const ProcessName& process) const;
  bool AtGate(const std::string& gate) const;
  std::string Bundle(const ProcessName& process) const;
  const PlannedProcess& Planned(const ProcessName& process) const {
    return plan_->processes.at(process);
  }
  std::vector<TestEvent> Events() const;

  void CleanUp();
  void CleanUp(const ProcessName& init);
  void AwaitAnswers(bool waits_as_well);
  void AwaitDeletions();
  void CheckLeftovers();
  void CheckFds();
  void CountCalls();
  void CountEvents();

  void Count(std::string_view what) { ++tally_[what]; }
  void Object(std::string fault) { faults_.push_back(std::move(fault)); }

  TestShim& shim_;
  Tally& tally_;
  std::vector<std::unique_ptr<TestClient>> clients_;
  Facts all_facts_;
  size_t first_event_ever_ = 0;
  size_t fds_ = 0;  // of the shim without tasks; 0: not yet known

  // Of the plan under way.
  const Plan* plan_ = nullptr;
  size_t first_event_ = 0;
  std::list<Asked> asked_;
  Facts facts_;
  std::set<std::string> closed_gates_;
  std::set<std::string> failures_;
  std::map<ProcessName, UniqueFd> readers_;
  std::vector<std::string> faults_;
};

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_SCHEDULE_H_
