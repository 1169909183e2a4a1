// Asks a real TensorRT's registry to load a library of plugins: registry RUNTIME LIBRARY. Needs no GPU.
// RUNTIME is libnvinfer.so or libnvinfer_lean.so, of the headers' major version. Prints what was found.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include <NvInferRuntime.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

using namespace nvinfer1;

namespace {

#if NV_TENSORRT_MAJOR >= 10
using Found = IPluginCreatorInterface;
Found* const* all(IPluginRegistry& registry, int32_t& count) { return registry.getAllCreators(&count); }
Found* look_up(IPluginRegistry& registry, const char* name, const char* space) {
  return registry.getCreator(name, "1", space);
}
#else
using Found = IPluginCreator;
Found* const* all(IPluginRegistry& registry, int32_t& count) { return registry.getPluginCreatorList(&count); }
Found* look_up(IPluginRegistry& registry, const char* name, const char* space) {
  return registry.getPluginCreator(name, "1", space);
}
#endif

constexpr const char* kNames[] = {"GaitEdgePartPool", "GaitEdgeFocalConv", "GaitEdgeFrameNetwork",
                                  "GaitEdgeMicroMotion"};

int32_t creators(IPluginRegistry& registry) {
  int32_t count = 0;
  all(registry, count);
  return count;
}

void print(IPluginRegistry& registry) {
  for (const char* name : kNames) {
    if (look_up(registry, name, "gaitedge")) std::printf("gaitedge %s 1\n", name);
    if (look_up(registry, name, "")) std::printf(" %s 1\n", name);
  }
}

}  // namespace

int main(int count, char** words) {
  void* const runtime = count == 3 ? dlopen(words[1], RTLD_NOW | RTLD_GLOBAL) : nullptr;
  if (!runtime) {
    std::fprintf(stderr, "%s\n", count == 3 ? dlerror() : "registry RUNTIME LIBRARY");
    return 1;
  }
  using Get = IPluginRegistry*();
  IPluginRegistry& registry = *reinterpret_cast<Get*>(dlsym(runtime, "getPluginRegistry"))();
  const int32_t before = creators(registry);
  const IPluginRegistry::PluginLibraryHandle library = registry.loadLibrary(words[2]);
  std::printf("%s\n", library ? "loaded" : "not loaded");
  std::printf("%d more\n", int(creators(registry) - before));
  print(registry);
  std::printf("%s\n", registry.loadLibrary(words[2]) ? "loaded again" : "not loaded again");
  if (library) registry.deregisterLibrary(library);
  std::printf("%d more\n", int(creators(registry) - before));
  print(registry);
  return 0;
}
