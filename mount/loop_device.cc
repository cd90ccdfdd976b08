#include "mount/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr int kTries = 100;

// Anything to keep two shims from meeting at each try.
absl::Duration Pause(int tries) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::Milliseconds((now.tv_nsec / 1000) % (10 * tries + 1));
}

}  // namespace

absl::StatusOr<LoopDevice> AttachLoopDevice(const std::string& file,
                                            bool read_only, bool direct_io,
                                            const MountContext& context) {
  const int mode = read_only ? O_RDONLY : O_RDWR;
  ASSIGN_OR_RETURN(UniqueFd backing, OpenFd(file, mode));
  ASSIGN_OR_RETURN(UniqueFd control, OpenFd("/dev/loop-control", O_RDWR));

  loop_config config = {};
  config.fd = static_cast<uint32_t>(backing.get());
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  if (read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  if (direct_io) config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  // Shown by losetup; the last byte stays 0.
  memcpy(config.info.lo_file_name, file.data(),
         std::min(file.size(), sizeof(config.info.lo_file_name) - 1));

  for (int tries = 1; tries <= kTries; ++tries) {
    if (context.is_cancelled()) {
      return absl::CancelledError("attach loop device: cancelled");
    }
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return ErrnoStatus(errno, "get free loop device");
    LoopDevice device;
    device.path = fmt::format("/dev/loop{}", number);
    ASSIGN_OR_RETURN(device.fd, OpenFd(device.path, mode));
    if (ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    // GET_FREE reserves nothing: somebody was quicker.
    if (errno != EBUSY) {
      return ErrnoStatus(errno,
                         fmt::format("attach {} to {}", file, device.path));
    }
    device.fd.Reset();
    absl::SleepFor(Pause(tries));
  }
  return absl::UnknownError("timeout creating new loopback device");
}

}  // namespace wisp
