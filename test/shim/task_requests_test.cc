#include "shim/task_requests.h"

#include <string>

#include "gtest/gtest.h"
#include "proto/linux_runc_options.pb.h"
#include "proto/runc_options.pb.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
namespace legacy = containerd::linux::runc;
namespace newer = containerd::runc::v1;

template <typename Request, typename Options>
void Pack(const Options& options, Request* request) {
  request->mutable_options()->set_type_url(options.GetTypeName());
  request->mutable_options()->set_value(options.SerializeAsString());
}

api::CheckpointTaskRequest CheckpointRequest() {
  api::CheckpointTaskRequest request;
  request.set_id("c1");
  request.set_path("/of/the/request");
  return request;
}

api::CreateTaskRequest CreateRequest() {
  api::CreateTaskRequest request;
  request.set_id("c1");
  request.set_bundle("/bundle");
  return request;
}

TEST(TaskRequestsTest, CheckpointsToWhereTheRequestSays) {
  const absl::StatusOr<CheckpointOptions> options =
      ToCheckpointOptions(CheckpointRequest());
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->image_path, "/of/the/request");
  EXPECT_EQ(options->work_path, "");
  EXPECT_TRUE(options->leave_running);
}

TEST(TaskRequestsTest, ReadsTheNewerCheckpointOptions) {
  newer::CheckpointOptions message;
  message.set_exit(true);
  message.set_open_tcp(true);
  message.set_external_unix_sockets(true);
  message.set_terminal(true);
  message.set_file_locks(true);
  message.add_empty_namespaces("network");
  message.set_image_path("/image");
  message.set_work_path("/work");
  message.set_parent_path("/parent");
  api::CheckpointTaskRequest request = CheckpointRequest();
  Pack(message, &request);
  const absl::StatusOr<CheckpointOptions> options =
      ToCheckpointOptions(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->leave_running);
  EXPECT_TRUE(options->open_tcp);
  EXPECT_TRUE(options->external_unix_sockets);
  EXPECT_TRUE(options->shell_job);
  EXPECT_TRUE(options->file_locks);
  EXPECT_EQ(options->empty_namespaces, std::vector<std::string>{"network"});
  // The daemon has put the image path in the request.
  EXPECT_EQ(options->image_path, "/of/the/request");
  EXPECT_EQ(options->work_path, "/work");
  EXPECT_EQ(options->parent_path, "/parent");
}

TEST(TaskRequestsTest, ReadsTheOlderCheckpointOptions) {
  legacy::CheckpointOptions message;
  message.set_exit(true);
  message.set_file_locks(true);
  message.set_work_path("/work");
  api::CheckpointTaskRequest request = CheckpointRequest();
  Pack(message, &request);
  absl::StatusOr<CheckpointOptions> options = ToCheckpointOptions(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->leave_running);
  EXPECT_TRUE(options->file_locks);
  EXPECT_EQ(options->image_path, "/of/the/request");
  EXPECT_EQ(options->work_path, "/work");

  message.set_image_path("/image");
  Pack(message, &request);
  options = ToCheckpointOptions(request);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->image_path, "/image");
  EXPECT_EQ(options->work_path, "/work");
}

TEST(TaskRequestsTest, RefusesCheckpointOptionsOfAnotherKind) {
  api::CheckpointTaskRequest request = CheckpointRequest();
  Pack(newer::Options(), &request);
  EXPECT_EQ(ToCheckpointOptions(request).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TaskRequestsTest, RestoresFromTheImageOfOlderOptions) {
  legacy::CreateOptions message;
  message.set_criu_image_path("/image");
  message.set_criu_work_path("/work");
  api::CreateTaskRequest request = CreateRequest();
  Pack(message, &request);
  absl::StatusOr<ContainerConfig> config = ToContainerConfig(request, "ns");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->checkpoint, "/image");
  EXPECT_EQ(config->options.criu_work_path, "/work");

  request.set_checkpoint("/of/the/request");
  config = ToContainerConfig(request, "ns");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->checkpoint, "/of/the/request");
}

// An operator's options table may name a place for images; that must not
// restore every container from it.
TEST(TaskRequestsTest, RestoresFromNoImageThatOtherOptionsName) {
  newer::Options message;
  message.set_criu_image_path("/image");
  api::CreateTaskRequest request = CreateRequest();
  Pack(message, &request);
  const absl::StatusOr<ContainerConfig> config =
      ToContainerConfig(request, "ns");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->checkpoint, "");
}

}  // namespace
}  // namespace wisp
