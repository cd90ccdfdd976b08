// Bytes out of grpc++.
#ifndef WISP_SHIM_GRPC_BYTES_H_
#define WISP_SHIM_GRPC_BYTES_H_

#include <grpcpp/support/byte_buffer.h>

#include <string>
#include <vector>

namespace wisp {

inline std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Valid() || !buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

}  // namespace wisp

#endif  // WISP_SHIM_GRPC_BYTES_H_
