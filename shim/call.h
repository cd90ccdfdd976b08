// One call in progress, whatever the transport.
//
// A handler gets a Call and answers it when it can, now or a day later: the
// object may be moved into completions. Whoever drops one unanswered has
// answered Internal. All of it belongs to the loop's thread.
#ifndef WISP_SHIM_CALL_H_
#define WISP_SHIM_CALL_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "process/status_macros.h"

namespace wisp {

// How a status of ours goes out: the texts of errors with a class end in that
// class, since containerd's clients see it and its daemons strip and restore it
// (errdefs/grpc.go@v1.6.20, pkg/errgrpc/grpc.go of containerd/errdefs); those
// without do not. Bytes that are no UTF-8 are replaced, or the peer could not
// decode the message at all.
absl::Status WireStatus(const absl::Status& status);

// A call whose messages are still bytes: what a transport makes.
class RawCall {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;
  // Takes the serialized response or the error; runs at most once.
  using Responder = absl::AnyInvocable<void(absl::StatusOr<std::string>) &&>;
  using CancelCallback = absl::AnyInvocable<void(const absl::Status& why) &&>;

  // Keys in lower case; they may repeat.
  RawCall(std::string payload, Metadata metadata, Responder responder);
  RawCall(RawCall&&) = default;
  RawCall& operator=(RawCall&&) = delete;
  ~RawCall();

  const std::string& payload() const { return state_->payload; }
  const Metadata& metadata() const { return state_->metadata; }
  // The first value of `key`, empty if there is none.
  std::string_view metadata(std::string_view key) const;

  // Answers. Does nothing if the call has ended (was answered, or cancelled).
  void Respond(absl::StatusOr<std::string> result);

  // True until it is answered or its end came from outside.
  bool alive() const { return state_->responder != nullptr; }

  // Runs `callback`, once, if the call ends from outside before it is answered:
  // its deadline (kDeadlineExceeded), its connection or the server
  // (kCancelled). If that was so already, at once. A new callback replaces the
  // old one.
  void OnCancel(CancelCallback callback);

  // The transport's handle to end the call from outside: it outlives the call,
  // and then does nothing.
  class Ender {
   public:
    Ender() = default;
    // Answers `why` and then tells the handler.
    void End(const absl::Status& why) const;
    bool alive() const;

   private:
    friend class RawCall;
    explicit Ender(std::shared_ptr<void> state) : state_(std::move(state)) {}
    std::weak_ptr<void> state_;
  };
  Ender ender() const { return Ender(state_); }

 private:
  struct State {
    std::string payload;
    Metadata metadata;
    Responder responder;  // null once answered
    CancelCallback on_cancel;
    absl::Status ended;  // why it was ended from outside
  };
  std::shared_ptr<State> state_;
};

// The answer of methods that answer with nothing, google.protobuf.Empty on the
// wire: no bytes at all.
struct Empty {
  std::string SerializeAsString() const { return std::string(); }
  bool ParseFromString(const std::string&) { return true; }
};

// A call with its messages. Req and Res are lite protobuf messages, or Empty.
template <typename Req, typename Res>
class Call {
 public:
  Call(RawCall raw, Req request)
      : raw_(std::move(raw)), request_(std::move(request)) {}

  const Req& request() const { return request_; }
  Req& request() { return request_; }

  void Reply(const Res& response) {
    raw_.Respond(response.SerializeAsString());
  }
  void Fail(const absl::Status& status) { raw_.Respond(WireStatus(status)); }
  // A reply without content, or the failure.
  void Finish(const absl::Status& status) {
    if (status.ok()) {
      raw_.Respond(std::string());
    } else {
      Fail(status);
    }
  }

  bool alive() const { return raw_.alive(); }
  void OnCancel(RawCall::CancelCallback callback) {
    raw_.OnCancel(std::move(callback));
  }
  std::string_view metadata(std::string_view key) const {
    return raw_.metadata(key);
  }

 private:
  RawCall raw_;
  Req request_;
};

// The methods of a service, by name; they may be served under several services'
// names and by several transports, which hold them as const.
using Method = absl::AnyInvocable<void(RawCall) const>;
using Methods = std::map<std::string, Method, std::less<>>;

// A method of `service` as an entry of Methods. `service` must outlive it.
template <typename Service, typename Req, typename Res>
Method Bind(Service* service, void (Service::*method)(Call<Req, Res>)) {
  return [service, method](RawCall raw) {
    Req request;
    if (!request.ParseFromString(raw.payload())) {
      raw.Respond(absl::InternalError(
          "ttrpc: error unmarshalling payload: proto: cannot parse invalid "
          "wire-format data"));
      return;
    }
    (service->*method)(Call<Req, Res>(std::move(raw), std::move(request)));
  };
}

}  // namespace wisp

#endif  // WISP_SHIM_CALL_H_
