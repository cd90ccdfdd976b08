#include <utility>

#include "shim/ttrpc/client.h"
#include "test/support/test_client.h"

namespace wisp {
namespace {

class TtrpcTestClient final : public TestClient {
 public:
  TtrpcTestClient(EventLoop& loop, const std::string& path)
      : client_(loop, path) {}

  void Call(std::string_view service, std::string_view method,
            std::string payload, const RawCall::Metadata& metadata,
            absl::Duration timeout, Done<std::string> done) override {
    client_.Call(service, method, std::move(payload), metadata, timeout,
                 std::move(done));
  }
  size_t calls_in_flight() const override { return client_.calls_in_flight(); }
  void Disconnect() override { client_.Disconnect(); }

 private:
  TtrpcClient client_;
};

}  // namespace

const TestTransport kTestTransport = {
    .binary = WISP_SHIM_BINARY,
    .scheme = "unix://",
    .protocol = "ttrpc",
    .connect = [](EventLoop& loop,
                  const std::string& path) -> std::unique_ptr<TestClient> {
      return std::make_unique<TtrpcTestClient>(loop, path);
    },
};

}  // namespace wisp
