#include "process/runtime_words.h"

#include <string>

#include "absl/strings/ascii.h"
#include "fmt/format.h"

namespace wisp {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool IsFlagCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-';
}

}  // namespace

bool HelpNames(std::string_view help, std::string_view flag) {
  constexpr std::string_view kRuncOnly[] = {"--no-subreaper", "--no-pivot",
                                            "--empty-ns"};
  if (!Contains(help, "--")) {
    for (const std::string_view known : kRuncOnly) {
      if (flag == known) return true;
    }
    return false;
  }
  for (size_t at = help.find(flag); at != std::string_view::npos;
       at = help.find(flag, at + 1)) {
    const size_t end = at + flag.size();
    if (end == help.size() || !IsFlagCharacter(help[end])) return true;
  }
  return false;
}

bool SaysUnknownCommand(std::string_view words, std::string_view verb) {
  // urfave/cli of runc, crun, clap of youki.
  return Contains(words, fmt::format("No help topic for '{}'", verb)) ||
         Contains(words, fmt::format("unknown command {}", verb)) ||
         Contains(words, fmt::format("unrecognized subcommand '{}'", verb));
}

bool SaysUnknownContainer(std::string_view words) {
  if (Contains(words, "does not exist")) return true;
  // crun, without the container's directory, and with one that a restore has
  // left half done.
  return Contains(words, "No such file") &&
         (Contains(words, "cannot open directory") ||
          Contains(words, "/status`"));
}

bool SaysProcessGone(std::string_view words) {
  return Contains(words, "os: process already finished") ||
         Contains(words, "container not running") ||
         Contains(absl::AsciiStrToLower(
                      absl::string_view(words.data(), words.size())),
                  "no such process");
}

}  // namespace wisp
