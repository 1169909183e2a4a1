// What TensorRT looks for in a library of plugins, under the name that its major version has for it.
#include <NvInferVersion.h>

#if NV_TENSORRT_MAJOR >= 10
#include "plugin_v3.h"
#define GAITEDGE_CREATORS getCreators
#elif NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6
#include "plugin_v2.h"
#define GAITEDGE_CREATORS getPluginCreators
#else
#error "GaitEdge's plugins need the headers of TensorRT 8.6, 10 or 11"
#endif

// The creators live as long as the library: the registry keeps these pointers.
GAITEDGE_API gaitedge::plugins::CreatorBase* const* GAITEDGE_CREATORS(int32_t& count) {
  using namespace gaitedge::plugins;
  static Creator creators[kDescriptions] = {Creator(description(0)), Creator(description(1)),
                                            Creator(description(2)), Creator(description(3))};
  static CreatorBase* const list[kDescriptions] = {&creators[0], &creators[1], &creators[2], &creators[3]};
  count = kDescriptions;
  return list;
}

GAITEDGE_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  gaitedge::plugins::logger_finder.store(finder);
}
