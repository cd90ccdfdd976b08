// A gRPC client on a socket of its own making: grpc++'s own way to connect
// would take its time, and would reconnect unasked.
#ifndef WISP_TEST_SUPPORT_GRPC_TEST_CLIENT_H_
#define WISP_TEST_SUPPORT_GRPC_TEST_CLIENT_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "process/event_loop.h"
#include "process/fd.h"
#include "test/support/test_client.h"

namespace wisp {

class GrpcTestClient final : public TestClient {
 public:
  // `loop` must outlive the client.
  GrpcTestClient(EventLoop& loop, std::string path);
  ~GrpcTestClient() override;

  void Call(std::string_view service, std::string_view method,
            std::string payload, const RawCall::Metadata& metadata,
            absl::Duration timeout, Done<std::string> done) override;
  size_t calls_in_flight() const override { return calls_.size(); }
  void Disconnect() override;

  // Gives up the call that was made last, as a client that waits no longer.
  void CancelLast();

 private:
  struct Pending;
  absl::Status Connect();
  void Finish(uint64_t id);

  EventLoop& loop_;
  const std::string path_;
  grpc::CompletionQueue queue_;
  UniqueFd socket_;  // a second descriptor; grpc++ has the first
  std::unique_ptr<grpc::GenericStub> stub_;
  // Those whose `done` has not run, and those that grpc++ still holds.
  std::map<uint64_t, std::shared_ptr<Pending>> calls_;
  std::map<uint64_t, std::shared_ptr<Pending>> held_;
  uint64_t next_call_ = 0;
  // What the thread posts finds nobody once this is gone.
  std::shared_ptr<GrpcTestClient*> self_;
  std::thread thread_;
};

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_GRPC_TEST_CLIENT_H_
