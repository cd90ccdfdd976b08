// containerd-shim-wisp-v2: what containerd runs.
#include "shim/program.h"
#include "shim/ttrpc/transport.h"

int main(int argc, char** argv, char** environment) {
  return wisp::RunProgram(wisp::kTtrpc, argc, argv, environment);
}
