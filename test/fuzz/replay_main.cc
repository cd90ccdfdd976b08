// Runs a fuzz target over the files of a folder: the corpus as a plain test.
#include <dirent.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include "process/fd.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
    return 2;
  }
  DIR* dir = opendir(argv[1]);
  if (dir == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  int inputs = 0;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    const std::string path = std::string(argv[1]) + "/" + entry->d_name;
    const absl::StatusOr<std::string> data = wisp::ReadFile(path);
    if (!data.ok()) {
      std::fprintf(stderr, "%s\n", data.status().ToString().c_str());
      return 1;
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(data->data()),
                           data->size());
    ++inputs;
  }
  closedir(dir);
  std::printf("%d inputs\n", inputs);
  // An empty corpus is a mistake, not a success.
  return inputs > 0 ? 0 : 1;
}
