#include <stdlib.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/runc_options.pb.h"
#include "proto/runtime_options.pb.h"
#include "proto/types.pb.h"
#include "shim/bootstrap.h"
#include "shim/identity.h"
#include "test/process/testing.h"
#include "test/shim/run_action.h"

namespace wisp {
namespace {

using containerd::types::RuntimeInfo;
using ::testing::HasSubstr;

// Odd white space, to see that it comes through.
constexpr char kFeatures[] =
    R"({"ociVersionMin": "1.0.0",  "linux":{"namespaces":["user"]}})";

class InfoTest : public ::testing::Test {
 protected:
  void SetRuntime(const std::string& script) {
    WISP_ASSERT_OK(WriteFileAtomically(runtime_, "#!/bin/sh\n" + script + "\n",
                                       0700, false));
  }
  std::string Print(const std::string& text) {
    return "test \"$*\" = features && echo '" + text + "'";
  }
  ActionResult Info(const google::protobuf::Any& any) {
    return RunAction(RunInfo, ShimOptions(), directory_ / "",
                     any.SerializeAsString());
  }
  google::protobuf::Any RuncAny(const std::string& binary) {
    containerd::runc::v1::Options options;
    options.set_binary_name(binary);
    google::protobuf::Any any;
    any.set_type_url("containerd.runc.v1.Options");
    any.set_value(options.SerializeAsString());
    return any;
  }
  RuntimeInfo Answer(const ActionResult& result) {
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    RuntimeInfo info;
    EXPECT_TRUE(info.ParseFromString(result.output));
    return info;
  }

  TemporaryDirectory directory_;
  std::string runtime_ = directory_ / "runtime";
};

TEST_F(InfoTest, PassesTheFeaturesOnAsTheyAre) {
  SetRuntime(Print(kFeatures));
  const RuntimeInfo info = Answer(Info(RuncAny(runtime_)));
  EXPECT_EQ(info.name(), "io.containerd.wisp.v2");
  EXPECT_EQ(info.version().version(), kVersion);
  EXPECT_EQ(info.options().SerializeAsString(),
            RuncAny(runtime_).SerializeAsString());
  EXPECT_EQ(
      info.features().type_url(),
      "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
  EXPECT_EQ(info.features().value(), std::string(kFeatures) + "\n");
  EXPECT_TRUE(info.annotations().empty());
}

TEST_F(InfoTest, TakesTheOptionsThatCriSends) {
  SetRuntime(Print(kFeatures));
  runtimeoptions::v1::Options options;
  options.set_config_body("BinaryName = \"" + runtime_ + "\"");
  google::protobuf::Any any;
  any.set_type_url("runtimeoptions.v1.Options");
  any.set_value(options.SerializeAsString());
  EXPECT_TRUE(Answer(Info(any)).has_features());
}

TEST_F(InfoTest, FeaturesThatADaemonWouldTripOverAreLeftOut) {
  for (const char* text : {"{}", R"({"linux":null})", "no JSON", ""}) {
    SetRuntime(Print(text));
    EXPECT_FALSE(Answer(Info(RuncAny(runtime_))).has_features()) << text;
  }
  SetRuntime("echo '" + std::string(kFeatures) + "'; exit 1");
  EXPECT_FALSE(Answer(Info(RuncAny(runtime_))).has_features());
}

TEST_F(InfoTest, WarningsOfTheRuntimeGoNowhere) {
  SetRuntime("echo warning >&2; " + Print(kFeatures));
  EXPECT_TRUE(Answer(Info(RuncAny(runtime_))).has_features());
}

TEST_F(InfoTest, WithoutOptionsTheRuntimeIsRunc) {
  SetRuntime(Print(kFeatures));
  ASSERT_EQ(rename(runtime_.c_str(), (directory_ / "runc").c_str()), 0);
  const std::string path = getenv("PATH");
  setenv("PATH", (directory_ / "" + ":" + path).c_str(), 1);
  const RuntimeInfo info = Answer(Info({}));
  google::protobuf::Any unknown;
  unknown.set_type_url("some.future.Options");
  unknown.set_value("x");
  const RuntimeInfo echoed = Answer(Info(unknown));
  setenv("PATH", path.c_str(), 1);
  EXPECT_FALSE(info.has_options());
  EXPECT_TRUE(info.has_features());
  EXPECT_EQ(echoed.options().type_url(), "some.future.Options");
}

TEST_F(InfoTest, AMissingRuntimeIsAnError) {
  const ActionResult result = Info(RuncAny("no-such-runtime"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors,
              HasSubstr("exec: \"no-such-runtime\": executable file not found "
                        "in $PATH"));
}

TEST_F(InfoTest, GarbageIsAnError) {
  const ActionResult result =
      RunAction(RunInfo, ShimOptions(), directory_ / "", "\xff\xff");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
}

TEST_F(InfoTest, TellsItsVersionToHumans) {
  ShimOptions options;
  options.program = "/usr/bin/containerd-shim-wisp-v2";
  const ActionResult result = RunAction(RunVersion, options, directory_ / "");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output.find("containerd-shim-wisp-v2:\n  Version:  "), 0U);
  EXPECT_THAT(result.output, HasSubstr("\n  Revision: "));
  EXPECT_EQ(result.output.substr(result.output.size() - 2), "\n\n");
}

}  // namespace
}  // namespace wisp
