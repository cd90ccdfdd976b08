#include "shim/identity.h"

namespace wisp {

const std::string_view kVersion = WISP_VERSION;
const std::string_view kRevision = WISP_REVISION;

}  // namespace wisp
