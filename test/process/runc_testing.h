// A driver of runtimes that are shell scripts.
#ifndef WISP_TEST_PROCESS_RUNC_TESTING_H_
#define WISP_TEST_PROCESS_RUNC_TESTING_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "gtest/gtest.h"
#include "process/runc.h"
#include "process/spawn.h"
#include "test/process/testing.h"

namespace wisp {

class RuncTest : public ::testing::Test {
 protected:
  RuncTest() : loop_(MakeLoop()), reaper_(*Reaper::Create(*loop_)) {}

  // A runtime that is a shell script; its arguments are in "$@".
  std::string Script(const std::string& body) {
    const std::string path = directory_.path() + "/runtime";
    EXPECT_TRUE(WriteFileAtomically(path, "#!/bin/sh\n" + body + "\n", 0700,
                                    /*sync=*/false)
                    .ok());
    return path;
  }

  RuncDriver Driver(const std::string& binary, RuncLimits limits = {}) {
    return RuncDriver(*loop_, *reaper_,
                      RuncSettings{.binary = binary,
                                   .root = directory_.path() + "/root",
                                   .container_id = "c1",
                                   .bundle = directory_.path(),
                                   .limits = limits,
                                   .env = EnvironmentWithout({})});
  }

  absl::Status Run(absl::FunctionRef<void(DoneStatus)> start) {
    std::optional<absl::Status> result;
    start([&result](absl::Status status) { result = std::move(status); });
    EXPECT_FALSE(result.has_value()) << "completed from within";
    EXPECT_TRUE(RunUntil(*loop_, [&result] { return result.has_value(); }));
    return result.value_or(absl::UnknownError("never completed"));
  }
  absl::Status Start(const std::string& binary, RuncLimits limits = {}) {
    RuncDriver driver = Driver(binary, limits);
    return Run([&](DoneStatus done) { driver.Start({}, std::move(done)); });
  }

  TemporaryDirectory directory_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Reaper> reaper_;
};

}  // namespace wisp

#endif  // WISP_TEST_PROCESS_RUNC_TESTING_H_
