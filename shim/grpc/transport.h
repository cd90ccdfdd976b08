// What makes a shim speak gRPC: containerd-shim-wisp_grpc-v2.
#ifndef WISP_SHIM_GRPC_TRANSPORT_H_
#define WISP_SHIM_GRPC_TRANSPORT_H_

#include "shim/transport.h"

namespace wisp {

extern const Transport kGrpc;

}  // namespace wisp

#endif  // WISP_SHIM_GRPC_TRANSPORT_H_
