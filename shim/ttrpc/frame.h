// The frames of ttrpc: a header of ten bytes, then the payload. No I/O here.
//
//   0  length of the payload, 4 bytes, big endian
//   4  stream id, 4 bytes, big endian
//   8  type
//   9  flags, which belong to streaming calls: we send 0 and ignore them
//
// (vendor/github.com/containerd/ttrpc/channel.go of containerd.)
#ifndef WISP_SHIM_TTRPC_FRAME_H_
#define WISP_SHIM_TTRPC_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp {

inline constexpr size_t kFrameHeaderSize = 10;
inline constexpr size_t kMaxFramePayload = size_t{4} << 20;

// Open: a peer may send other values.
enum class FrameType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct Frame {
  uint32_t stream = 0;
  FrameType type = FrameType::kRequest;
  uint8_t flags = 0;
  std::string payload;
  // Of the payload, as the header tells it. Beyond kMaxFramePayload the payload
  // was skipped and is empty here.
  uint32_t length = 0;

  bool oversize() const { return length > kMaxFramePayload; }
};

// What both sides say about a payload of `length`: kResourceExhausted.
absl::Status PayloadTooLong(size_t length);

// Flags are 0. `payload` is at most kMaxFramePayload long.
std::string EncodeFrame(uint32_t stream, FrameType type,
                        std::string_view payload);

// Cuts a stream of bytes, which come in any fragments, into frames. Never
// fails: every sequence of bytes is a sequence of frames, and what they mean is
// for others to judge. Holds no more than the peer has sent of one frame, and
// nothing between frames.
class FrameDecoder {
 public:
  // The next frame that `*input` completes, taken off its front. If there is
  // none, all of the input has been taken.
  std::optional<Frame> Next(std::string_view* input);

 private:
  std::array<unsigned char, kFrameHeaderSize> header_;
  size_t header_size_ = 0;  // bytes of it that have come
  Frame frame_;
  uint32_t missing_ = 0;  // bytes of the payload still to come
};

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_FRAME_H_
