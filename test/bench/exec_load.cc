// exec_load -s SHIM -r RUNTIME [-n EXECS] [-w WARM] [-p PARALLEL] [-l EXECS]
//           [-i SECONDS] [-R ROOTFS]
//
// What execs cost SHIM, and what they leave in it: a container whose health is
// asked for EXECS times, with a client's end of its output, by calls over
// ttrpc. Prints LABEL<TAB>VALUE lines. SHIM takes what daemons from 2.3 on send
// to `start`.
//   -r RUNTIME   fake_runc, whose runs are counted; or runc, with -R
//   -w WARM      growth is what comes after so many (default a tenth)
//   -p PARALLEL  how many are under way at a time (default 4)
//   -l EXECS     then so many, 50 at a time, for their latency (default 2000)
//   -i SECONDS   then nothing, for so long: who wakes?
//   -R ROOTFS    the container's, with /bin/sleep and /bin/true
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/json.h"
#include "shim/state_dump.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

constexpr int kForLatency = 50;

struct LoadOptions {
  std::string shim;
  std::string runtime;
  std::string rootfs;
  int execs = 1000;
  int warm = -1;
  int parallel = 4;
  int latency_execs = 2000;
  int idle_seconds = 0;
};

void Figure(std::string_view label, const std::string& value) {
  fmt::print("{}\t{}\n", label, value);
  fflush(stdout);
}
void Figure(std::string_view label, int64_t value) {
  Figure(label, std::to_string(value));
}

[[noreturn]] void Fail(std::string_view what) {
  fmt::print(stderr, "exec_load: {}\n", what);
  exit(1);
}

void Check(const absl::Status& status, std::string_view what) {
  if (!status.ok()) Fail(fmt::format("{}: {}", what, Message(status)));
}

std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const dir = opendir(directory.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  closedir(dir);
  return names;
}

struct Sample {
  int64_t private_kib = 0;
  // Without the pages of the program's file, which only a lone shim has for
  // itself: they come when code runs for the first time.
  int64_t anonymous_kib = 0;
  int64_t fds = 0;
  int64_t threads = 0;
  int64_t switches = 0;  // of its threads, wanted and not
  absl::Duration cpu;    // of the shim alone, threads that have ended included
};

Sample Measure(pid_t pid) {
  const std::string proc = fmt::format("/proc/{}", pid);
  Sample sample;
  sample.private_kib =
      SumOf(proc + "/smaps_rollup", {"Private_Clean", "Private_Dirty"});
  sample.anonymous_kib = SumOf(proc + "/smaps_rollup", {"Anonymous"});
  sample.fds = static_cast<int64_t>(Names(proc + "/fd").size());
  for (const std::string& thread : Names(proc + "/task")) {
    ++sample.threads;
    sample.switches +=
        SumOf(fmt::format("{}/task/{}/status", proc, thread),
              {"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"});
  }
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) == 0 &&
      clock_gettime(clock, &time) == 0) {
    sample.cpu = absl::DurationFromTimespec(time);
  }
  return sample;
}

// Execs without end: for each that is deleted another is made.
class Load {
 public:
  Load(TestShim& shim, std::string output)
      : shim_(shim), output_(std::move(output)) {
    Json process = Json::Object();
    Json args = Json::Array();
    args.Append("/bin/true");
    Json env = Json::Array();
    env.Append("PATH=/bin:/usr/bin");
    process.Set("args", std::move(args));
    process.Set("env", std::move(env));
    process.Set("cwd", "/");
    spec_ = process.Dump();
  }

  // Returns how long each took, from Exec to the answer of Wait.
  std::vector<absl::Duration> Run(int execs, int parallel) {
    left_ = execs;
    latencies_.clear();
    const bool ended = shim_.RunUntil(
        [this, parallel] {
          while (left_ > 0 && under_way_ < parallel && !LagsBehind()) Next();
          return under_way_ == 0 && left_ == 0;
        },
        absl::Hours(24));
    if (!ended) Fail("no end of it");
    return std::move(latencies_);
  }

  int total() const { return total_; }

 private:
  struct Exec {
    std::string id;
    absl::Time begun;
  };
  using Then =
      absl::AnyInvocable<void(const std::shared_ptr<Exec>&, std::string) &&>;

  void Ask(const std::shared_ptr<Exec>& exec, std::string_view method,
           const google::protobuf::MessageLite& request, Then then) {
    shim_.client().Call(
        "containerd.task.v3.Task", method, request.SerializeAsString(),
        {{"containerd-namespace-ttrpc", shim_.namespace_name()}},
        absl::Minutes(10),
        [exec, name = std::string(method),
         then = std::move(then)](absl::StatusOr<std::string> result) mutable {
          Check(result.status(), name + " " + exec->id);
          std::move(then)(exec, *std::move(result));
        });
  }

  template <typename Request>
  Request For(const std::shared_ptr<Exec>& exec) {
    Request request;
    request.set_id("c1");
    request.set_exec_id(exec->id);
    return request;
  }

  // We are the daemon, too, one that takes events more slowly than calls: so
  // many may wait, fewer than the shim ever drops.
  bool LagsBehind() const {
    return 3 * static_cast<size_t>(total_) > shim_.events().size() + 3000;
  }

  void Next() {
    --left_;
    ++under_way_;
    const auto exec =
        std::make_shared<Exec>(Exec{fmt::format("e{}", ++total_), absl::Now()});
    auto request = For<api::ExecProcessRequest>(exec);
    request.set_stdout(output_);
    request.set_stderr(output_);
    request.mutable_spec()->set_value(spec_);
    Ask(exec, "Exec", request, [this](const auto& made, const std::string&) {
      Ask(made, "Start", For<api::StartRequest>(made),
          [this](const auto& started, const std::string&) { Await(started); });
    });
  }

  void Await(const std::shared_ptr<Exec>& exec) {
    Ask(exec, "Wait", For<api::WaitRequest>(exec),
        [this](const auto& ended, const std::string& payload) {
          latencies_.push_back(absl::Now() - ended->begun);
          api::WaitResponse response;
          if (!response.ParseFromString(payload) ||
              response.exit_status() != 0) {
            Fail(fmt::format("{} ended with {}", ended->id,
                             response.exit_status()));
          }
          Ask(ended, "Delete", For<api::DeleteRequest>(ended),
              [this](const auto&, const std::string&) { --under_way_; });
        });
  }

  TestShim& shim_;
  const std::string output_;
  std::string spec_;
  int left_ = 0;
  int under_way_ = 0;
  int total_ = 0;
  std::vector<absl::Duration> latencies_;
};

void WriteConfig(const std::string& bundle, const std::string& rootfs) {
  const std::string config = fmt::format(
      R"({{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},)"
      R"("args":["/bin/sleep","1000000"],"env":["PATH=/bin"],"cwd":"/"}},)"
      R"("root":{{"path":"{}"}},)"
      R"("mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],)"
      R"("linux":{{"cgroupsPath":"/wisp-exec-load-{}","namespaces":[)"
      R"({{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}}]}}}})",
      rootfs, getpid());
  Check(WriteFileAtomically(bundle + "/config.json", config, 0600, false),
        "config.json");
}

// The shim, and containerd's part, come to rest: so long without an event.
void Rest(TestShim& shim, absl::Duration length) {
  size_t told;
  do {
    told = shim.events().size();
    (void)shim.RunUntil([] { return false; }, length);
  } while (shim.events().size() > told);
}

void Percentiles(std::vector<absl::Duration> latencies) {
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&latencies](double part) {
    const auto index =
        static_cast<size_t>(part * static_cast<double>(latencies.size() - 1));
    return absl::ToInt64Microseconds(latencies[index]);
  };
  Figure("an exec, 50 at once: median, us", at(0.5));
  Figure("an exec, 50 at once: p99, us", at(0.99));
}

// Told once each.
void CheckEvents(const TestShim& shim, int execs) {
  std::map<std::string, int> exits;
  for (const TestEvent& event : shim.events()) {
    if (event.topic == "/tasks/exit" && event.process != "c1") {
      ++exits[event.process];
    }
  }
  int wrong = execs - static_cast<int>(exits.size());
  for (const auto& [exec, times] : exits) wrong += times == 1 ? 0 : 1;
  Figure("exits not told once", wrong);
}

// What its tables still hold, if it is one that tells.
void CheckTables(TestShim& shim) {
  const absl::StatusOr<std::string> text =
      shim.CallRaw(kDumpService, kDumpMethod, "", absl::Seconds(10));
  if (!text.ok()) return;
  const absl::StatusOr<Json> dump = Json::Parse(*text);
  Check(dump.status(), "dump");
  const JsonView task = (*dump)["tasks"].at(0);
  const JsonView counts = (*dump)["counts"];
  const std::pair<const char*, int64_t> left[] = {
      {"execs", static_cast<int64_t>(task["execs"].size())},
      {"runs", static_cast<int64_t>(task["runtime_runs"].size())},
      // But for the one that asks.
      {"calls", static_cast<int64_t>((*dump)["calls"].size()) - 1},
      {"events", (*dump)["events"]["pending"].Int64Or(-1)},
      // But for init.
      {"children", counts["children"].Int64Or(-1) - 1},
      {"stdio", counts["stdio_outliving_its_process"].Int64Or(-1)},
      {"answers", counts["unclaimed_answers"].Int64Or(-1)},
      {"threads", counts["threads"].Int64Or(-1)},
  };
  for (const auto& [what, number] : left) {
    Figure(fmt::format("left in the shim: {}", what), number);
  }
}

void RunAll(const LoadOptions& options) {
  setenv("WISP_TEST_SHIM", options.shim.c_str(), 1);
  const std::unique_ptr<TestShim> shim =
      TestShim::Start(options.runtime, /*debug=*/false);
  if (shim == nullptr) Fail("no shim");
  const std::string bundle = shim->MakeBundle("c1", {"sleep", "1000000"});
  if (!options.rootfs.empty()) WriteConfig(bundle, options.rootfs);
  Check(shim->Create("c1").status(), "Create");
  Check(shim->StartTask("c1").status(), "Start");
  const std::string fifo = shim->directory() + "/output";
  if (mkfifo(fifo.c_str(), 0600) != 0) Fail("mkfifo");
  const absl::StatusOr<UniqueFd> reader = OpenFd(fifo, O_RDWR | O_NONBLOCK);
  Check(reader.status(), "output");

  Load load(*shim, fifo);
  load.Run(options.warm, options.parallel);
  Rest(*shim, absl::Seconds(2));
  const Sample warm = Measure(shim->pid());
  const absl::Time begun = absl::Now();
  load.Run(options.execs - options.warm, options.parallel);
  const absl::Duration took = absl::Now() - begun;
  Rest(*shim, absl::Seconds(2));
  const Sample end = Measure(shim->pid());

  const int measured = std::max(1, options.execs - options.warm);
  Figure("execs", options.execs);
  Figure(fmt::format("private after {}, KiB", options.warm), warm.private_kib);
  Figure("private at the end, KiB", end.private_kib);
  Figure("private: growth, KiB", end.private_kib - warm.private_kib);
  Figure("anonymous: growth, KiB", end.anonymous_kib - warm.anonymous_kib);
  Figure("fds: growth", end.fds - warm.fds);
  Figure("threads: growth", end.threads - warm.threads);
  Figure("threads", end.threads);
  Figure("shim's CPU per 1000 execs, us",
         absl::ToInt64Microseconds(end.cpu - warm.cpu) * 1000 / measured);
  Figure("time per exec, us", absl::ToInt64Microseconds(took) / measured);
  if (options.latency_execs > 0) {
    Percentiles(load.Run(options.latency_execs, kForLatency));
  }
  Rest(*shim, absl::Seconds(2));
  CheckEvents(*shim, load.total());
  CheckTables(*shim);
  if (options.rootfs.empty()) {
    int runs = 0;
    int others = 0;
    for (const std::string& run : shim->RuntimeCalls()) {
      ++(run.starts_with("exec e") ? runs : others);
    }
    Figure("runs of the runtime without an exec", runs - load.total());
    Figure("other runs of the runtime", others);
  }
  if (options.idle_seconds > 0) {
    // What is put off until all is quiet is not idleness.
    Rest(*shim, absl::Seconds(5));
    const Sample before = Measure(shim->pid());
    Rest(*shim, absl::Seconds(options.idle_seconds));
    const Sample after = Measure(shim->pid());
    Figure(fmt::format("idle {} s: context switches", options.idle_seconds),
           after.switches - before.switches);
    Figure(fmt::format("idle {} s: CPU, us", options.idle_seconds),
           absl::ToInt64Microseconds(after.cpu - before.cpu));
  }
  (void)shim->Kill("c1", SIGKILL);
  (void)shim->Wait("c1");
  Check(shim->Delete("c1").status(), "Delete");
}

int Main(int argc, char** argv) {
  LoadOptions options;
  int option;
  while ((option = getopt(argc, argv, "s:r:R:n:w:p:l:i:")) != -1) {
    switch (option) {
      case 's':
        options.shim = optarg;
        break;
      case 'r':
        options.runtime = optarg;
        break;
      case 'R':
        options.rootfs = optarg;
        break;
      case 'n':
        options.execs = atoi(optarg);
        break;
      case 'w':
        options.warm = atoi(optarg);
        break;
      case 'p':
        options.parallel = atoi(optarg);
        break;
      case 'l':
        options.latency_execs = atoi(optarg);
        break;
      case 'i':
        options.idle_seconds = atoi(optarg);
        break;
      default:
        return 2;
    }
  }
  if (options.shim.empty() || options.runtime.empty() || options.execs < 1) {
    return 2;
  }
  if (options.warm < 0) options.warm = options.execs / 10;
  RunAll(options);
  return 0;
}

}  // namespace
}  // namespace wisp

int main(int argc, char** argv) { return wisp::Main(argc, argv); }
