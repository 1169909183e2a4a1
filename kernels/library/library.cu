// What the library says of itself.
#include "gaitedge/arguments.h"
#include "gaitedge/platform.h"

#if !defined(GAITEDGE_SOURCES)
#define GAITEDGE_SOURCES "unknown"
#endif
#if !defined(GAITEDGE_TARGETS)
#define GAITEDGE_TARGETS "unknown"
#endif

GAITEDGE_API const char* gaitedge_sources() { return GAITEDGE_SOURCES; }

GAITEDGE_API const char* gaitedge_build() {
  return "gaitedge-build sources=" GAITEDGE_SOURCES " targets=" GAITEDGE_TARGETS;
}

GAITEDGE_API const char* gaitedge_error(int status) {
  if (status == 0) return "no error";
  if (status == gaitedge::kUnsupported) return "no kernel for such arguments";
#if defined(__CUDACC__)
  return cudaGetErrorString(static_cast<cudaError_t>(status));
#else
  return "the host build failed: see gaitedge_host_failure";
#endif
}
