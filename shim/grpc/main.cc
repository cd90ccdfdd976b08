// containerd-shim-wisp_grpc-v2: the same shim for a daemon that speaks gRPC.
#include "shim/grpc/transport.h"
#include "shim/program.h"

int main(int argc, char** argv, char** environment) {
  return wisp::RunProgram(wisp::kGrpc, argc, argv, environment);
}
