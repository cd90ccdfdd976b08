// The least of a shim: answers Connect on a listening socket until it is
// killed, for the versions of the task service that it is said to have.
#ifndef WISP_TEST_SHIM_FAKE_SHIM_H_
#define WISP_TEST_SHIM_FAKE_SHIM_H_

#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>

#include "process/fd.h"
#include "proto/ttrpc.pb.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

[[noreturn]] inline void ServeConnect(int listener,
                                      const std::set<std::string>& services) {
  for (;;) {
    const UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    FrameDecoder decoder;
    char buffer[4096];
    ssize_t n;
    while (fd.valid() && (n = read(fd.get(), buffer, sizeof(buffer))) > 0) {
      std::string_view input(buffer, static_cast<size_t>(n));
      while (std::optional<Frame> frame = decoder.Next(&input)) {
        ttrpc::Request request;
        ttrpc::Response response;
        if (!request.ParseFromString(frame->payload) ||
            services.count(request.service()) == 0) {
          response.mutable_status()->set_code(12);
          response.mutable_status()->set_message("service");
        }
        (void)WriteAll(fd.get(),
                       EncodeFrame(frame->stream, FrameType::kResponse,
                                   response.SerializeAsString()));
      }
    }
  }
}

}  // namespace wisp

#endif  // WISP_TEST_SHIM_FAKE_SHIM_H_
