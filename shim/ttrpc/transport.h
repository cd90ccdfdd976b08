// What makes a shim speak ttrpc: containerd-shim-wisp-v2.
#ifndef WISP_SHIM_TTRPC_TRANSPORT_H_
#define WISP_SHIM_TTRPC_TRANSPORT_H_

#include "shim/transport.h"

namespace wisp {

extern const Transport kTtrpc;

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_TRANSPORT_H_
