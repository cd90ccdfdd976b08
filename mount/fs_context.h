// Mounting an overlay whose options are longer than mount(2) takes.
#ifndef WISP_MOUNT_FS_CONTEXT_H_
#define WISP_MOUNT_FS_CONTEXT_H_

#include <string>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// Makes the overlay with fsopen(2) and one fsconfig(2) per lower layer
// (`lowerdir+`, Linux 6.8). `data` are the options as for mount(2), relative
// layers relative to this thread's directory; `flags` are MS_*.
//
// Errors: kUnimplemented if this kernel cannot, or the options hold something
// that means another thing here (escapes, quotes, a value of 256 bytes or
// more); else the errno's, with what the file system wrote into its log.
absl::Status MountOverlayLayerByLayer(const std::string& source,
                                      const std::string& target,
                                      unsigned long flags,
                                      const std::vector<std::string>& data);

}  // namespace wisp

#endif  // WISP_MOUNT_FS_CONTEXT_H_
