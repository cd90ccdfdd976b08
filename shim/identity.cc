#include "shim/identity.h"

namespace wisp {

const std::string_view kRuntimeName = WISP_RUNTIME_NAME;
const std::string_view kVersion = WISP_VERSION;
const std::string_view kRevision = WISP_REVISION;

}  // namespace wisp
