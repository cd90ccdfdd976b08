#include "shim/runtime_options.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "proto/linux_runc_options.pb.h"
#include "proto/runc_options.pb.h"
#include "proto/runtime_options.pb.h"
#include "shim/toml_options.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;

RuncOptions AllSet() {
  RuncOptions options;
  options.no_pivot_root = true;
  options.no_new_keyring = true;
  options.shim_cgroup = "/shims";
  options.io_uid = 1;
  options.io_gid = 4294967295;
  options.binary_name = "crun";
  options.root = "/r";
  options.systemd_cgroup = true;
  options.criu_image_path = "/i";
  options.criu_work_path = "/w";
  return options;
}

TEST(RuntimeOptionsTest, NothingIsTheDefaults) {
  EXPECT_EQ(*DecodeRuntimeOptions("", ""), RuncOptions());
  EXPECT_EQ(*DecodeRuntimeOptions("", "\x01"), RuncOptions());
  EXPECT_EQ(*DecodeRuntimeOptions("containerd.runc.v1.Options", ""),
            RuncOptions());
  EXPECT_EQ(*DecodeRuntimeOptions("never.heard.of.It", ""), RuncOptions());
}

TEST(RuntimeOptionsTest, ReadsRuncsOwn) {
  containerd::runc::v1::Options message;
  message.set_no_pivot_root(true);
  message.set_no_new_keyring(true);
  message.set_shim_cgroup("/shims");
  message.set_io_uid(1);
  message.set_io_gid(4294967295);
  message.set_binary_name("crun");
  message.set_root("/r");
  message.set_criu_path("/ignored");
  message.set_systemd_cgroup(true);
  message.set_criu_image_path("/i");
  message.set_criu_work_path("/w");
  message.set_task_api_version(3);
  const std::string value = message.SerializeAsString();
  for (const char* url : {"containerd.runc.v1.Options",
                          "type.googleapis.com/containerd.runc.v1.Options",
                          "/containerd.runc.v1.Options"}) {
    EXPECT_EQ(*DecodeRuntimeOptions(url, value), AllSet()) << url;
  }
}

TEST(RuntimeOptionsTest, ReadsThoseOf1xClients) {
  containerd::linux::runc::CreateOptions message;
  message.set_no_pivot_root(true);
  message.set_no_new_keyring(true);
  message.set_open_tcp(true);
  message.add_empty_namespaces("network");
  message.set_shim_cgroup("/shims");
  message.set_io_uid(1);
  message.set_io_gid(4294967295);
  message.set_criu_image_path("/i");
  message.set_criu_work_path("/w");
  RuncOptions expected = AllSet();
  expected.binary_name.clear();
  expected.root.clear();
  expected.systemd_cgroup = false;
  EXPECT_EQ(*DecodeRuntimeOptions("containerd.linux.runc.CreateOptions",
                                  message.SerializeAsString()),
            expected);
}

TEST(RuntimeOptionsTest, ReadsCrisTable) {
  runtimeoptions::v1::Options message;
  message.set_type_url("whatever");
  message.set_config_body(R"(
    BinaryName = "crun"
    Root = '/r'
    SystemdCgroup = true
    no_pivot_root = true
    NONEWKEYRING = true
    ShimCgroup = "/shims"
    IoUid = 1
    io_gid = 4294967295
    CriuImagePath = "/i"
    CriuWorkPath = "/w"
    PodAnnotations = ["a"]
    [nested]
    BinaryName = "not this one"
  )");
  EXPECT_EQ(*DecodeRuntimeOptions("runtimeoptions.v1.Options",
                                  message.SerializeAsString()),
            AllSet());
}

TEST(RuntimeOptionsTest, ReadsTheFileIfThereIsNoBody) {
  TemporaryDirectory directory;
  runtimeoptions::v1::Options message;
  message.set_config_path(directory / "options.toml");
  WISP_ASSERT_OK(WriteFileAtomically(
      message.config_path(), "BinaryName = \"from-file\"\n", 0600, false));
  EXPECT_EQ(DecodeRuntimeOptions("runtimeoptions.v1.Options",
                                 message.SerializeAsString())
                ->binary_name,
            "from-file");
  message.set_config_body("Root = \"/body\"");
  const RuncOptions options = *DecodeRuntimeOptions(
      "runtimeoptions.v1.Options", message.SerializeAsString());
  EXPECT_EQ(options.binary_name, "");
  EXPECT_EQ(options.root, "/body");
}

TEST(RuntimeOptionsTest, AMissingFileIsTheRequestsFault) {
  runtimeoptions::v1::Options message;
  message.set_config_path("/nowhere/at/all.toml");
  const absl::Status status = DecodeRuntimeOptions("runtimeoptions.v1.Options",
                                                   message.SerializeAsString())
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(Message(status)),
      HasSubstr("open /nowhere/at/all.toml: no such file or directory"));
}

TEST(RuntimeOptionsTest, RefusesOtherTypes) {
  const absl::Status status =
      DecodeRuntimeOptions("x/containerd.runc.v1.CheckpointOptions", "\x08\x01")
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status),
            "type with url x/containerd.runc.v1.CheckpointOptions: not "
            "supported: invalid argument");
}

TEST(RuntimeOptionsTest, RefusesBrokenBytes) {
  for (const char* url :
       {"containerd.runc.v1.Options", "runtimeoptions.v1.Options",
        "containerd.linux.runc.CreateOptions"}) {
    EXPECT_EQ(DecodeRuntimeOptions(url, "\x1a\x7f").status().code(),
              absl::StatusCode::kInvalidArgument)
        << url;
  }
}

TEST(TomlOptionsTest, RefusesBrokenTextAndWrongTypes) {
  for (const char* text :
       {"BinaryName = ", "= 1", "BinaryName = 1", "SystemdCgroup = \"true\"",
        "IoUid = -1", "IoGid = 4294967296", "IoUid = 1.0", "Root = [\"/r\"]",
        "[BinaryName]\nx = 1", "Root = \"\xff\""}) {
    EXPECT_EQ(ParseTomlOptions(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_EQ(*ParseTomlOptions(""), RuncOptions());
}

TEST(TomlOptionsTest, ANestedTextCannotExhaustTheStack) {
  EXPECT_FALSE(ParseTomlOptions("x = " + std::string(100000, '[')).ok());
}

TEST(RuntimeOptionsTest, KnowsTheTypes) {
  EXPECT_TRUE(IsRuncOptionsType("a/containerd.runc.v1.Options"));
  EXPECT_FALSE(IsRuncOptionsType("Xcontainerd.runc.v1.Options"));
  EXPECT_FALSE(IsRuncOptionsType("runtimeoptions.v1.Options"));
  EXPECT_TRUE(IsRuntimeOptionsType("runtimeoptions.v1.Options"));
  EXPECT_FALSE(IsRuntimeOptionsType("x.Y"));
}

}  // namespace
}  // namespace wisp
