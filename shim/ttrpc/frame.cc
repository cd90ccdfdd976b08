#include "shim/ttrpc/frame.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

uint32_t ReadBigEndian(const unsigned char* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 |
         uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

void AppendBigEndian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

}  // namespace

absl::Status PayloadTooLong(size_t length) {
  return absl::ResourceExhaustedError(
      fmt::format("message length {} exceed maximum message size of {}", length,
                  kMaxFramePayload));
}

std::string EncodeFrame(uint32_t stream, FrameType type,
                        std::string_view payload) {
  WISP_CHECK(payload.size() <= kMaxFramePayload);
  std::string out;
  out.reserve(kFrameHeaderSize + payload.size());
  AppendBigEndian(out, static_cast<uint32_t>(payload.size()));
  AppendBigEndian(out, stream);
  out.push_back(static_cast<char>(type));
  out.push_back(0);
  out.append(payload);
  return out;
}

std::optional<Frame> FrameDecoder::Next(std::string_view* input) {
  if (header_size_ < kFrameHeaderSize) {
    const size_t n = std::min(kFrameHeaderSize - header_size_, input->size());
    std::copy_n(input->begin(), n, header_.begin() + header_size_);
    input->remove_prefix(n);
    header_size_ += n;
    if (header_size_ < kFrameHeaderSize) return std::nullopt;
    frame_.length = missing_ = ReadBigEndian(&header_[0]);
    frame_.stream = ReadBigEndian(&header_[4]);
    frame_.type = static_cast<FrameType>(header_[8]);
    frame_.flags = header_[9];
  }
  const size_t n = std::min<size_t>(missing_, input->size());
  // Appended as it comes, not reserved: a header costs its sender ten bytes and
  // must not cost us four megabytes.
  if (!frame_.oversize()) frame_.payload.append(input->substr(0, n));
  input->remove_prefix(n);
  missing_ -= static_cast<uint32_t>(n);
  if (missing_ > 0) return std::nullopt;
  header_size_ = 0;
  return std::exchange(frame_, Frame());
}

}  // namespace wisp
