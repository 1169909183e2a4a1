#include "gaitedge/frame_network.h"

GAITEDGE_API int gaitedge_frame_network(const gaitedge::FrameNetwork* arguments, void* stream) {
  return gaitedge::launch_frame_network(*arguments, stream);
}
