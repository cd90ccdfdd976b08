// What CRIU wrote about a failure.
#ifndef WISP_PROCESS_CRIU_LOG_H_
#define WISP_PROCESS_CRIU_LOG_H_

#include <string>
#include <string_view>

namespace wisp {

// Its first complaints, up to three of them, without their times: the first
// need not be fatal, and the last only says that all is lost. `(00.0123) Error
// (criu/a.c:1): b: No such file` is `criu/a.c:1: b: No such file`. Empty if
// there are none.
std::string CriuErrors(std::string_view log);

// The same for a file; empty also if it cannot be read. Of a long one only the
// end is looked at.
std::string CriuErrorsIn(const std::string& path);

}  // namespace wisp

#endif  // WISP_PROCESS_CRIU_LOG_H_
