#include "gaitedge/part_distance.h"

GAITEDGE_API int gaitedge_part_distance(const gaitedge::PartDistance* arguments, void* stream) {
  return gaitedge::launch_part_distance(*arguments, stream);
}

GAITEDGE_API int64_t gaitedge_part_distance_workspace(const gaitedge::PartDistance* arguments) {
  return gaitedge::part_distance_workspace(*arguments);
}
