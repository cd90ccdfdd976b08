#include "shim/call.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "proto/task.pb.h"

namespace wisp {
namespace {

using containerd::task::v3::ConnectRequest;
using containerd::task::v3::ConnectResponse;

TEST(WireStatusTest, EndsClassifiedErrorsInTheirClassOnce) {
  EXPECT_EQ(Message(WireStatus(absl::NotFoundError("container not created"))),
            "container not created: not found");
  EXPECT_EQ(Message(WireStatus(absl::NotFoundError("c1: not found"))),
            "c1: not found");
  EXPECT_EQ(Message(WireStatus(absl::FailedPreconditionError("no"))),
            "no: failed precondition");
  EXPECT_EQ(Message(WireStatus(absl::AlreadyExistsError(""))),
            "already exists");
}

TEST(WireStatusTest, LeavesErrorsWithoutAClassAlone) {
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("runc failed"))),
            "runc failed");
  EXPECT_TRUE(WireStatus(absl::OkStatus()).ok());
}

TEST(WireStatusTest, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("a\xff\xc3(z"))),
            "a\uFFFD\uFFFD(z");
  const std::string valid = "\u00e4\u20ac\U0001F600";
  EXPECT_EQ(Message(WireStatus(absl::UnknownError(valid))), valid);
  // Overlong, surrogate, beyond the last code point, cut short.
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("\xc0\x80"))),
            "\uFFFD\uFFFD");
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("\xed\xa0\x80"))),
            "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("\xf4\x90\x80\x80"))),
            "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Message(WireStatus(absl::UnknownError("\xe2\x82"))),
            "\uFFFD\uFFFD");
}

class CallTest : public testing::Test {
 protected:
  RawCall Make(std::string payload = "") {
    return RawCall(std::move(payload), {{"key", "first"}, {"key", "second"}},
                   [this](absl::StatusOr<std::string> result) {
                     ++answers_;
                     answer_ = std::move(result);
                   });
  }

  int answers_ = 0;
  absl::StatusOr<std::string> answer_ = absl::UnknownError("no answer yet");
};

TEST_F(CallTest, AnswersOnce) {
  RawCall call = Make();
  EXPECT_TRUE(call.alive());
  call.Respond(std::string("one"));
  EXPECT_FALSE(call.alive());
  call.Respond(std::string("two"));
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(*answer_, "one");
}

TEST_F(CallTest, AnswersInternalWhenDropped) {
  {
    RawCall call = Make();
    RawCall moved = std::move(call);
  }
  EXPECT_EQ(answers_, 1);
  EXPECT_TRUE(absl::IsInternal(answer_.status()));
}

TEST_F(CallTest, TakesTheFirstOfRepeatedMetadata) {
  RawCall call = Make();
  EXPECT_EQ(call.metadata("key"), "first");
  EXPECT_EQ(call.metadata("other"), "");
  call.Respond(std::string());
}

TEST_F(CallTest, TellsTheHandlerOfAnEndFromOutsideAfterTheAnswer) {
  RawCall call = Make();
  const RawCall::Ender ender = call.ender();
  std::optional<absl::StatusCode> why;
  call.OnCancel([this, &why](const absl::Status& status) {
    EXPECT_EQ(answers_, 1);
    why = status.code();
  });
  EXPECT_TRUE(ender.alive());
  ender.End(absl::DeadlineExceededError("context deadline exceeded"));
  EXPECT_EQ(why, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(answer_.status()), "context deadline exceeded");
  EXPECT_FALSE(call.alive());
  EXPECT_FALSE(ender.alive());
  call.Respond(std::string("late"));
  EXPECT_EQ(answers_, 1);
}

TEST_F(CallTest, TellsAtOnceOfAnEndThatWasBefore) {
  RawCall call = Make();
  call.ender().End(absl::CancelledError("gone"));
  bool told = false;
  call.OnCancel([&told](const absl::Status& status) {
    told = absl::IsCancelled(status);
  });
  EXPECT_TRUE(told);
}

TEST_F(CallTest, ForgetsTheCancelCallbackOnceAnswered) {
  auto token = std::make_shared<int>(0);
  RawCall call = Make();
  call.OnCancel([token](const absl::Status&) { ADD_FAILURE(); });
  call.Respond(std::string());
  EXPECT_EQ(token.use_count(), 1);
  call.ender().End(absl::CancelledError("gone"));
}

TEST_F(CallTest, EnderOutlivesTheCall) {
  RawCall::Ender ender;
  ender.End(absl::CancelledError("nothing to end"));
  {
    RawCall call = Make();
    ender = call.ender();
  }
  ender.End(absl::CancelledError("gone"));
  EXPECT_EQ(answers_, 1);
}

struct Service {
  void Connect(Call<ConnectRequest, ConnectResponse> call) {
    if (call.request().id().empty()) {
      call.Fail(absl::NotFoundError("container not created"));
      return;
    }
    ConnectResponse response;
    response.set_shim_pid(7);
    call.Reply(response);
  }
};

TEST_F(CallTest, BindsAMethodToItsMessages) {
  Service service;
  const Method method = Bind(&service, &Service::Connect);
  ConnectRequest request;
  request.set_id("c1");
  method(Make(request.SerializeAsString()));
  ConnectResponse response;
  ASSERT_TRUE(answer_.ok());
  ASSERT_TRUE(response.ParseFromString(*answer_));
  EXPECT_EQ(response.shim_pid(), 7u);

  method(Make());
  EXPECT_EQ(answer_.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(answer_.status()), "container not created: not found");
}

TEST_F(CallTest, RefusesAPayloadThatDoesNotParse) {
  Service service;
  const Method method = Bind(&service, &Service::Connect);
  method(Make("\x0a\xff"));
  EXPECT_EQ(answer_.status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(Message(answer_.status())
                  .starts_with("ttrpc: error unmarshalling payload: "));
}

}  // namespace
}  // namespace wisp
