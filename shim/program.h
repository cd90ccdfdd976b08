// The program, whatever it speaks.
#ifndef WISP_SHIM_PROGRAM_H_
#define WISP_SHIM_PROGRAM_H_

#include "shim/transport.h"

namespace wisp {

// All that main does: starts, deletes or serves, as the command line says, and
// returns the exit status. A server ends the process itself.
int RunProgram(const Transport& transport, int argc, char** argv,
               char** environment);

}  // namespace wisp

#endif  // WISP_SHIM_PROGRAM_H_
