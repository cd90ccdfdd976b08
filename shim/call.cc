#include "shim/call.h"

#include "fmt/format.h"
#include "process/json.h"

namespace wisp {
namespace {

std::string_view ClassText(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "invalid argument";
    case absl::StatusCode::kNotFound:
      return "not found";
    case absl::StatusCode::kAlreadyExists:
      return "already exists";
    case absl::StatusCode::kFailedPrecondition:
      return "failed precondition";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kUnimplemented:
      return "not implemented";
    case absl::StatusCode::kDeadlineExceeded:
      return "context deadline exceeded";
    case absl::StatusCode::kCancelled:
      return "context canceled";
    default:
      return "";
  }
}

}  // namespace

absl::Status WireStatus(const absl::Status& status) {
  if (status.ok()) return status;
  std::string message = WithValidUtf8(Message(status));
  const std::string_view suffix = ClassText(status.code());
  if (!suffix.empty() && !message.ends_with(suffix)) {
    message = message.empty() ? std::string(suffix)
                              : fmt::format("{}: {}", message, suffix);
  }
  return absl::Status(status.code(), message);
}

RawCall::RawCall(std::string payload, Metadata metadata, Responder responder)
    : state_(std::make_shared<State>(
          State{std::move(payload), std::move(metadata), std::move(responder),
                nullptr, absl::OkStatus()})) {}

RawCall::~RawCall() {
  if (state_ != nullptr && alive()) {
    Respond(absl::InternalError("call dropped by its handler"));
  }
}

std::string_view RawCall::metadata(std::string_view key) const {
  for (const auto& [name, value] : state_->metadata) {
    if (name == key) return value;
  }
  return "";
}

void RawCall::Respond(absl::StatusOr<std::string> result) {
  if (!alive()) return;
  Responder responder = std::exchange(state_->responder, nullptr);
  CancelCallback gone = std::exchange(state_->on_cancel, nullptr);
  std::move(responder)(std::move(result));
}

void RawCall::OnCancel(CancelCallback callback) {
  if (alive()) {
    state_->on_cancel = std::move(callback);
  } else if (!state_->ended.ok()) {
    std::move(callback)(state_->ended);
  }
}

void RawCall::Ender::End(const absl::Status& why) const {
  const std::shared_ptr<State> state =
      std::static_pointer_cast<State>(state_.lock());
  if (state == nullptr || state->responder == nullptr) return;
  state->ended = why;
  Responder responder = std::exchange(state->responder, nullptr);
  CancelCallback on_cancel = std::exchange(state->on_cancel, nullptr);
  std::move(responder)(WireStatus(why));
  if (on_cancel != nullptr) std::move(on_cancel)(why);
}

bool RawCall::Ender::alive() const {
  const std::shared_ptr<State> state =
      std::static_pointer_cast<State>(state_.lock());
  return state != nullptr && state->responder != nullptr;
}

}  // namespace wisp
