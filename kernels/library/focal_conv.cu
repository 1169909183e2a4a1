#include "gaitedge/focal_conv.h"

GAITEDGE_API int gaitedge_focal_conv(const gaitedge::FocalConv* arguments, void* stream) {
  return gaitedge::launch_focal_conv(*arguments, stream);
}
