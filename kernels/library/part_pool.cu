#include "gaitedge/part_pool.h"

GAITEDGE_API int gaitedge_part_pool(const gaitedge::PartPool* arguments, void* stream) {
  return gaitedge::launch_part_pool(*arguments, stream);
}
