#include "shim/start_request.h"

#include <string>

#include "gtest/gtest.h"
#include "proto/bootstrap.pb.h"
#include "proto/runc_options.pb.h"
#include "proto/runtime_options.pb.h"
#include "shim/ttrpc/transport.h"

namespace wisp {
namespace {

using Reply = StartRequest::Reply;
namespace bootstrap = containerd::runtime::bootstrap::v1;

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(
        std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

ShimOptions Flags() {
  ShimOptions options;
  options.id = "abc";
  options.namespace_name = "default";
  options.address = "/run/containerd/containerd.sock";
  return options;
}

bootstrap::BootstrapParams Params() {
  bootstrap::BootstrapParams params;
  params.set_instance_id("abc");
  params.set_namespace_("default");
  params.set_containerd_ttrpc_address("/run/t.sock");
  params.set_containerd_grpc_address("/run/g.sock");
  params.set_socket_dir("/run/s");
  return params;
}

google::protobuf::Any RuncOptionsAny(const std::string& binary) {
  containerd::runc::v1::Options message;
  message.set_binary_name(binary);
  google::protobuf::Any any;
  any.set_type_url("containerd.runc.v1.Options");
  any.set_value(message.SerializeAsString());
  return any;
}

google::protobuf::Any CriOptionsAny(const std::string& toml) {
  runtimeoptions::v1::Options message;
  message.set_config_body(toml);
  google::protobuf::Any any;
  any.set_type_url("runtimeoptions.v1.Options");
  any.set_value(message.SerializeAsString());
  return any;
}

StartRequest Parsed(const ShimOptions& options, const std::string& input) {
  absl::StatusOr<StartRequest> request = ParseStartRequest(options, input);
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? *request : StartRequest();
}

TEST(StartRequestTest, NothingOnStdinIsThePlainRequestOfOldDaemons) {
  ShimOptions options = Flags();
  options.ttrpc_address = "/env.sock";
  const StartRequest request = Parsed(options, "");
  EXPECT_EQ(request.reply, Reply::kAddress);
  EXPECT_EQ(request.address, "/run/containerd/containerd.sock");
  EXPECT_EQ(request.ttrpc_address, "/env.sock");
  EXPECT_EQ(request.socket_directory, "");
  EXPECT_FALSE(request.debug);
  EXPECT_EQ(request.runtime_options, RuncOptions());
}

TEST(StartRequestTest, AnAnyIsNotTakenForBootstrapParams) {
  const std::string input = RuncOptionsAny("crun").SerializeAsString();
  bootstrap::BootstrapParams alike;
  ASSERT_TRUE(alike.ParseFromString(input));  // it does decode as one
  const StartRequest request = Parsed(Flags(), input);
  EXPECT_EQ(request.reply, Reply::kAddress);
  EXPECT_EQ(request.runtime_options.binary_name, "crun");
}

TEST(StartRequestTest, BootstrapParamsFillWhatTheEnvironmentLacks) {
  ShimOptions options = Flags();
  StartRequest request = Parsed(options, Params().SerializeAsString());
  EXPECT_EQ(request.reply, Reply::kBootstrapResult);
  EXPECT_EQ(request.ttrpc_address, "/run/t.sock");
  EXPECT_EQ(request.address, "/run/containerd/containerd.sock");
  EXPECT_EQ(request.socket_directory, "/run/s");
  options.address.clear();
  options.ttrpc_address = "/env.sock";
  request = Parsed(options, Params().SerializeAsString());
  EXPECT_EQ(request.ttrpc_address, "/env.sock");
  EXPECT_EQ(request.address, "/run/g.sock");
}

TEST(StartRequestTest, BootstrapParamsOfAnotherContainerAreNone) {
  bootstrap::BootstrapParams params = Params();
  params.set_instance_id("other");
  EXPECT_EQ(Parsed(Flags(), params.SerializeAsString()).reply, Reply::kAddress);
  params = Params();
  params.set_namespace_("other");
  EXPECT_EQ(Parsed(Flags(), params.SerializeAsString()).reply, Reply::kAddress);
}

TEST(StartRequestTest, NegativeLogLevelsAreDebug) {
  std::string bytes;
  for (const char* level :
       {"18fcffffffffffffffff01", "18f8ffffffffffffffff01"}) {
    bytes = Params().SerializeAsString() + FromHex(level);
    const StartRequest request = Parsed(Flags(), bytes);
    EXPECT_EQ(request.reply, Reply::kBootstrapResult) << level;
    EXPECT_TRUE(request.debug) << level;
  }
  bootstrap::BootstrapParams params = Params();
  for (int level : {-3, 0, 4, 100}) {
    params.set_log_level(static_cast<bootstrap::LogLevel>(level));
    EXPECT_FALSE(Parsed(Flags(), params.SerializeAsString()).debug) << level;
  }
}

TEST(StartRequestTest, RuncsOptionsWinAmongTheExtensions) {
  bootstrap::BootstrapParams params = Params();
  params.add_extensions()->mutable_value()->set_type_url("what.Ever");
  *params.add_extensions()->mutable_value() =
      CriOptionsAny("BinaryName = \"cri\"");
  EXPECT_EQ(
      Parsed(Flags(), params.SerializeAsString()).runtime_options.binary_name,
      "cri");
  google::protobuf::Any prefixed = RuncOptionsAny("first");
  prefixed.set_type_url("x/containerd.runc.v1.Options");
  *params.add_extensions()->mutable_value() = prefixed;
  *params.add_extensions()->mutable_value() = RuncOptionsAny("second");
  EXPECT_EQ(
      Parsed(Flags(), params.SerializeAsString()).runtime_options.binary_name,
      "first");
}

TEST(StartRequestTest, GarbageAndUnknownTypesCountAsNothing) {
  EXPECT_EQ(Parsed(Flags(), "\xff\xff\xff").reply, Reply::kAddress);
  google::protobuf::Any any;
  any.set_type_url("some.future.Options");
  any.set_value("x");
  EXPECT_EQ(Parsed(Flags(), any.SerializeAsString()).runtime_options,
            RuncOptions());
}

TEST(StartRequestTest, BrokenOptionsOfAKnownTypeAreAnError) {
  EXPECT_EQ(ParseStartRequest(Flags(),
                              CriOptionsAny("BinaryName =").SerializeAsString())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

constexpr char kAddress[] =
    "unix:///run/containerd/s/"
    "05380991aeb734527f768875a3abe60fc483550242e2fc78fd0aecdbbe4576f1";

TEST(StartReplyTest, OldDaemonsGetTheBareAddress) {
  constexpr std::string_view kScheme = "unix://";
  const std::string path(std::string_view(kAddress).substr(kScheme.size()));
  EXPECT_EQ(kTtrpc.format_address(path), kAddress);
  EXPECT_EQ(kTtrpc.parse_address(kAddress), path);
  EXPECT_EQ(kTtrpc.parse_address(R"({"version":2})"), "");
}

TEST(StartReplyTest, NewOnesGetABootstrapResult) {
  const std::string expected = FromHex(
      "08031259756e69783a2f2f2f72756e2f636f6e7461696e6572642f732f3035333830393"
      "931616562373334353237663736383837356133616265363066633438333535303234326"
      "532666337386664306165636462626534353736663"
      "11a05747472706332260a240a22636f6e7461696e6572642e74797065732e4d6f756e744"
      "361706162696c6974696573");
  ASSERT_EQ(expected.size(), 140U);
  EXPECT_EQ(FormatBootstrapResult(3, kAddress, "ttrpc"), expected);
  // 2.3.0 trims white space before it decodes.
  EXPECT_EQ(expected.front(), '\x08');
  EXPECT_EQ(expected.back(), 's');
}

}  // namespace
}  // namespace wisp
