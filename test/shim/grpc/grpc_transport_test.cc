#include <string>

#include "gtest/gtest.h"
#include "shim/grpc/transport.h"

namespace wisp {
namespace {

constexpr char kPath[] = "/run/containerd/s/0538";
constexpr char kText[] =
    R"({"version":2,"address":"/run/containerd/s/0538","protocol":"grpc"})";

TEST(GrpcTransportTest, AnswersAsContainerd17ReadsIt) {
  EXPECT_EQ(kGrpc.format_address(kPath), kText);
}

TEST(GrpcTransportTest, FindsTheSocketInItsOwnAnswersOnly) {
  EXPECT_EQ(kGrpc.parse_address(kText), kPath);
  EXPECT_EQ(kGrpc.parse_address("unix:///run/containerd/s/0538"), "");
  EXPECT_EQ(kGrpc.parse_address(R"({"address":7})"), "");
  EXPECT_EQ(kGrpc.parse_address(""), "");
}

TEST(GrpcTransportTest, RefusesContainerd16AndNoOther) {
  ShimOptions options;
  StartRequest request;
  EXPECT_EQ(kGrpc.check_daemon(options, request).code(),
            absl::StatusCode::kFailedPrecondition);
  options.max_version_known = true;
  EXPECT_TRUE(kGrpc.check_daemon(options, request).ok());
  options.max_version_known = false;
  request.reply = StartRequest::Reply::kBootstrapResult;
  EXPECT_TRUE(kGrpc.check_daemon(options, request).ok());
}

// Or a daemon would dial gRPC to a shim that speaks ttrpc.
TEST(GrpcTransportTest, MeetsNoShimThatSpeaksOtherwise) {
  EXPECT_EQ(kGrpc.SocketKey("pod"), "pod/grpc");
}

}  // namespace
}  // namespace wisp
