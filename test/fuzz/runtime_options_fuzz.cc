// Any bytes are runtime options of each type, or refused; and the same for the
// stdin of `start`.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "process/status_macros.h"
#include "proto/runtime_options.pb.h"
#include "shim/runtime_options.h"
#include "shim/start_request.h"
#include "shim/toml_options.h"

namespace wisp {
namespace {

void CheckRefusal(const absl::Status& status) {
  WISP_CHECK(status.ok() ||
             status.code() == absl::StatusCode::kInvalidArgument);
}

// The fuzzer must not be led to files of the machine.
bool NamesAFile(std::string_view data) {
  runtimeoptions::v1::Options options;
  return options.ParseFromArray(data.data(), static_cast<int>(data.size())) &&
         !options.config_path().empty();
}

void Check(std::string_view data) {
  CheckRefusal(ParseTomlOptions(data).status());
  CheckRefusal(
      DecodeRuntimeOptions("containerd.runc.v1.Options", data).status());
  CheckRefusal(DecodeRuntimeOptions("containerd.linux.runc.CreateOptions", data)
                   .status());
  if (!NamesAFile(data)) {
    CheckRefusal(
        DecodeRuntimeOptions("runtimeoptions.v1.Options", data).status());
  }
  if (data.find('/') == data.npos) {
    ShimOptions options;
    options.id = "c";
    options.namespace_name = "n";
    CheckRefusal(ParseStartRequest(options, data).status());
  }
}

}  // namespace
}  // namespace wisp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  wisp::Check({reinterpret_cast<const char*>(data), size});
  return 0;
}
