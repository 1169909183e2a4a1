#include "gaitedge/micro_motion.h"
#include "gaitedge/micro_motion_stream.h"

GAITEDGE_API int gaitedge_micro_motion(const gaitedge::MicroMotion* arguments, void* stream) {
  return gaitedge::launch_micro_motion(*arguments, stream);
}

GAITEDGE_API int gaitedge_micro_motion_stream(const gaitedge::MicroMotionStream* arguments, void* stream) {
  return gaitedge::launch_micro_motion_stream(*arguments, stream);
}
