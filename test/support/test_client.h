// A client of the shim, whatever the shim speaks, and what a test must know of
// that. Linked in: ttrpc_test_client.cc or grpc_test_client.cc.
#ifndef WISP_TEST_SUPPORT_TEST_CLIENT_H_
#define WISP_TEST_SUPPORT_TEST_CLIENT_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "shim/call.h"

namespace wisp {

// Connects with the first call, and anew with the first call after the
// connection was lost. All on the loop's thread.
class TestClient {
 public:
  virtual ~TestClient() = default;
  // See TtrpcClient::Call().
  virtual void Call(std::string_view service, std::string_view method,
                    std::string payload, const RawCall::Metadata& metadata,
                    absl::Duration timeout, Done<std::string> done) = 0;
  virtual size_t calls_in_flight() const = 0;
  // Calls under way fail with kUnavailable, inside this.
  virtual void Disconnect() = 0;
};

struct TestTransport {
  std::string binary;  // of the shim
  std::string scheme;  // before the socket in its address
  std::string protocol;
  std::unique_ptr<TestClient> (*connect)(EventLoop& loop,
                                         const std::string& path);
};
extern const TestTransport kTestTransport;

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_TEST_CLIENT_H_
