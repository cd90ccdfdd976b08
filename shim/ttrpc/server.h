// Serves methods over ttrpc to any number of connections.
//
// Malformed input is answered as containerd's own library answers it
// (vendor/github.com/containerd/ttrpc/server.go, 1.2), or ignored.
#ifndef WISP_SHIM_TTRPC_SERVER_H_
#define WISP_SHIM_TTRPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "process/event_loop.h"
#include "process/fd.h"
#include "shim/server.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

class TtrpcServer final : public Server {
 public:
  // `loop` must outlive the server. Hooks may be null.
  TtrpcServer(EventLoop& loop, Hooks hooks);
  ~TtrpcServer() override;

  // Respond() to a call hands the answer to the kernel before it returns, if
  // the socket has room; so this closes all of them inside the call.
  void CloseAllConnections() override;
  void AddConnection(UniqueFd socket) override;

  size_t connections() const override { return connections_.size(); }
  size_t calls_in_flight() const override;
  std::vector<CallInfo> Calls() const override;

 private:
  struct Stream;
  struct Connection;

  void OnFrame(uint64_t id, Frame frame);
  void OnRequest(const std::shared_ptr<Connection>& connection, Frame frame);
  void Drop(uint64_t id);

  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  uint64_t next_connection_ = 0;
};

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_SERVER_H_
