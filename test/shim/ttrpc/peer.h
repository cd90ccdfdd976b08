// The other side of a unix socket, for tests that run both on one loop.
#ifndef WISP_TEST_SHIM_TTRPC_PEER_H_
#define WISP_TEST_SHIM_TTRPC_PEER_H_

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "proto/ttrpc.pb.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

// Runs the loop until `condition` holds; false if it does not within 30 s.
template <typename Condition>
bool RunUntil(EventLoop& loop, Condition condition) {
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > end) return false;
    loop.RunOnce(absl::Milliseconds(5));
  }
  return true;
}

inline sockaddr_un SocketAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// A directory with room for a socket.
class SocketDir {
 public:
  SocketDir() {
    char name[] = "/tmp/wisp_test_XXXXXX";
    if (mkdtemp(name) != nullptr) dir_ = name;
  }
  ~SocketDir() {
    unlink(socket().c_str());
    rmdir(dir_.c_str());
  }
  const std::string& path() const { return dir_; }
  std::string socket() const { return dir_ + "/s"; }

 private:
  std::string dir_;
};

// A listening socket; replaces one of that name.
inline UniqueFd ListenOn(const std::string& path) {
  unlink(path.c_str());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = SocketAddress(path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0 ||
      listen(fd.get(), 128) != 0) {
    ADD_FAILURE() << "listen on " << path << ": " << strerror(errno);
  }
  return fd;
}

inline UniqueFd ConnectedTo(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = SocketAddress(path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    ADD_FAILURE() << "connect to " << path << ": " << strerror(errno);
  }
  return fd;
}

// Speaks bytes.
class Peer {
 public:
  explicit Peer(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }
  void Close() { socket_.Reset(); }

  // As much as the socket takes; returns how much that was.
  size_t Write(std::string_view bytes) {
    const ssize_t n =
        send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }
  // Everything, running the loop meanwhile.
  void WriteAll(EventLoop& loop, std::string_view bytes) {
    EXPECT_TRUE(RunUntil(loop, [this, &bytes] {
      bytes.remove_prefix(Write(bytes));
      return bytes.empty();
    }));
  }

  // Reads what is there into frames(); sets eof().
  void Poll() {
    char buffer[65536];
    for (;;) {
      const ssize_t n = recv(socket_.get(), buffer, sizeof(buffer), 0);
      if (n < 0) {
        eof_ = eof_ || errno != EAGAIN;
        return;
      }
      if (n == 0) {
        eof_ = true;
        return;
      }
      std::string_view input(buffer, static_cast<size_t>(n));
      while (std::optional<Frame> frame = decoder_.Next(&input)) {
        frames_.push_back(*std::move(frame));
      }
    }
  }
  const std::vector<Frame>& frames() const { return frames_; }
  bool eof() const { return eof_; }

  // Waits for `count` frames in all.
  bool Await(EventLoop& loop, size_t count) {
    return RunUntil(loop,
                    [this, count] {
                      Poll();
                      return frames_.size() >= count || eof_;
                    }) &&
           frames_.size() >= count;
  }
  bool AwaitEof(EventLoop& loop) {
    return RunUntil(loop, [this] {
      Poll();
      return eof_;
    });
  }

 private:
  UniqueFd socket_;
  FrameDecoder decoder_;
  std::vector<Frame> frames_;
  bool eof_ = false;
};

inline std::string RequestFrame(uint32_t stream, std::string_view service,
                                std::string_view method,
                                std::string_view payload = "",
                                int64_t timeout_nano = 0) {
  ttrpc::Request request;
  request.set_service(std::string(service));
  request.set_method(std::string(method));
  request.set_payload(std::string(payload));
  request.set_timeout_nano(timeout_nano);
  return EncodeFrame(stream, FrameType::kRequest, request.SerializeAsString());
}

inline ttrpc::Response ResponseIn(const Frame& frame) {
  ttrpc::Response response;
  EXPECT_EQ(frame.type, FrameType::kResponse);
  EXPECT_EQ(frame.flags, 0);
  EXPECT_TRUE(response.ParseFromString(frame.payload));
  return response;
}

// "0a 17" and "0a17" to bytes.
inline std::string FromHex(std::string_view hex) {
  std::string bytes;
  std::string digits;
  for (const char c : hex) {
    if (c == ' ' || c == '\n') continue;
    digits.push_back(c);
    if (digits.size() == 2) {
      bytes.push_back(
          static_cast<char>(std::strtol(digits.c_str(), nullptr, 16)));
      digits.clear();
    }
  }
  return bytes;
}

}  // namespace wisp

#endif  // WISP_TEST_SHIM_TTRPC_PEER_H_
