#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "shim/ttrpc/frame.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

std::vector<Frame> Decode(FrameDecoder& decoder, std::string_view input) {
  std::vector<Frame> frames;
  while (std::optional<Frame> frame = decoder.Next(&input)) {
    frames.push_back(*std::move(frame));
  }
  EXPECT_TRUE(input.empty());
  return frames;
}

TEST(FrameTest, EncodesHeaderAndPayload) {
  EXPECT_EQ(EncodeFrame(5, FrameType::kResponse, ""),
            FromHex("00000000 00000005 02 00"));
  EXPECT_EQ(EncodeFrame(0x01020304, FrameType::kRequest, "ab"),
            FromHex("00000002 01020304 01 00 6162"));
}

TEST(FrameTest, DecodesSeveralFramesOfOneRead) {
  FrameDecoder decoder;
  const std::vector<Frame> frames =
      Decode(decoder, EncodeFrame(1, FrameType::kRequest, "one") +
                          EncodeFrame(3, FrameType::kRequest, "") +
                          EncodeFrame(5, FrameType::kData, "three"));
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].payload, "one");
  EXPECT_EQ(frames[1].stream, 3u);
  EXPECT_EQ(frames[1].payload, "");
  EXPECT_EQ(frames[2].type, FrameType::kData);
  EXPECT_EQ(frames[2].payload, "three");
}

TEST(FrameTest, DecodesByteByByte) {
  std::string input = FromHex("00000003 80000001 09 07 616263");
  input += EncodeFrame(7, FrameType::kRequest, "");
  FrameDecoder decoder;
  std::vector<Frame> frames;
  for (size_t i = 0; i < input.size(); ++i) {
    for (Frame& frame : Decode(decoder, input.substr(i, 1))) {
      frames.push_back(std::move(frame));
    }
    EXPECT_EQ(frames.size(), i + 1 == input.size() ? 2u : i >= 12 ? 1u : 0u);
  }
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].stream, 0x80000001u);
  EXPECT_EQ(static_cast<int>(frames[0].type), 9);
  EXPECT_EQ(frames[0].flags, 7);
  EXPECT_EQ(frames[0].payload, "abc");
  EXPECT_EQ(frames[1].stream, 7u);
}

TEST(FrameTest, AcceptsTheLongestPayload) {
  const std::string payload(kMaxFramePayload, 'x');
  FrameDecoder decoder;
  const std::vector<Frame> frames =
      Decode(decoder, EncodeFrame(1, FrameType::kRequest, payload));
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_FALSE(frames[0].oversize());
  EXPECT_EQ(frames[0].payload, payload);
}

TEST(FrameTest, SkipsAPayloadThatIsTooLongAndGoesOn) {
  FrameDecoder decoder;
  EXPECT_TRUE(Decode(decoder, FromHex("00400001 00000009 01 00")).empty());
  size_t left = kMaxFramePayload + 1;
  const std::string chunk(60000, 'x');
  while (left > 1) {
    const size_t n = std::min(left - 1, chunk.size());
    EXPECT_TRUE(Decode(decoder, chunk.substr(0, n)).empty());
    left -= n;
  }
  const std::vector<Frame> frames =
      Decode(decoder, "x" + EncodeFrame(11, FrameType::kRequest, "next"));
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_TRUE(frames[0].oversize());
  EXPECT_EQ(frames[0].length, kMaxFramePayload + 1);
  EXPECT_EQ(frames[0].stream, 9u);
  EXPECT_EQ(frames[0].payload.capacity(), std::string().capacity());
  EXPECT_FALSE(frames[1].oversize());
  EXPECT_EQ(frames[1].payload, "next");
}

}  // namespace
}  // namespace wisp
