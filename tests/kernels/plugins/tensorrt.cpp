// The plugins through TensorRT's own interface: IPluginV2DynamicExt or IPluginV3, by the headers' version.
// Plays TensorRT's part, in the order in which it calls.
#include <cstring>
#include <string>
#include <vector>

#include "tensorrt_words.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace {

#if NV_TENSORRT_MAJOR >= 10
using Creator = IPluginCreatorV3One;
using Plugin = IPluginV3;
#else
using Creator = IPluginCreator;
using Plugin = IPluginV2DynamicExt;
#endif

}  // namespace

#if NV_TENSORRT_MAJOR >= 10
extern "C" IPluginCreatorInterface* const* getCreators(int32_t& count);
#else
extern "C" IPluginCreator* const* getPluginCreators(int32_t& count);
#endif
extern "C" void setLoggerFinder(ILoggerFinder* finder);

namespace {

int32_t creator_count = 0;

Creator& creator_at(int index) {
  static Finder finder;
  static const bool found = (setLoggerFinder(&finder), true);
  (void)found;
#if NV_TENSORRT_MAJOR >= 10
  IPluginCreatorInterface* const creator = getCreators(creator_count)[index];
  if (std::strcmp(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") != 0) std::abort();
  return static_cast<Creator&>(*creator);
#else
  return *getPluginCreators(creator_count)[index];
#endif
}

Plugin* create(int index, const PluginFieldCollection& collection, [[maybe_unused]] bool running) {
  Creator& creator = creator_at(index);
#if NV_TENSORRT_MAJOR >= 10
  const TensorRTPhase phase = running ? TensorRTPhase::kRUNTIME : TensorRTPhase::kBUILD;
  return creator.createPlugin("a node", &collection, phase);
#else
  return static_cast<Plugin*>(creator.createPlugin("a node", &collection));
#endif
}

#if NV_TENSORRT_MAJOR >= 10
IPluginV3OneCore& core(Plugin& plugin) {
  return *static_cast<IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE));
}
IPluginV3OneBuild& builder(Plugin& plugin) {
  return *static_cast<IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime& runtime(Plugin& plugin) {
  return *static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}
#else
Plugin& builder(Plugin& plugin) { return plugin; }
#endif

Plugin& plugin_of(Driven* plugin) { return *reinterpret_cast<Plugin*>(plugin); }
Driven* driven(Plugin* plugin) { return reinterpret_cast<Driven*>(plugin); }

void destroy(Plugin* plugin) {
#if NV_TENSORRT_MAJOR >= 10
  delete plugin;
#else
  plugin->destroy();
#endif
}

}  // namespace

DRIVER int driver_count() {
  creator_at(0);
  return creator_count;
}

DRIVER const char* driver_name(int index) {
  static std::string name;
  Creator& creator = creator_at(index);
  name = creator.getPluginNamespace();
  name += std::string(" ") + creator.getPluginName() + " " + creator.getPluginVersion();
  return name.c_str();
}

DRIVER const char* driver_fields(int index) {
  static std::string text;
  text.clear();
  const PluginFieldCollection& collection = *creator_at(index).getFieldNames();
  for (int i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    text += std::string(field.name) + ":" + std::to_string(field_number(field.type)) + " ";
  }
  return text.c_str();
}

DRIVER Driven* driver_create(int index, const DriverField* fields, int count) {
  std::vector<PluginField> given;
  for (int i = 0; i < count; ++i) {
    given.emplace_back(fields[i].name, fields[i].data, field_type(fields[i].type), fields[i].length);
  }
  PluginFieldCollection collection{};
  collection.nbFields = count;
  collection.fields = given.data();
  return driven(create(index, collection, false));
}

DRIVER int driver_output(Driven* plugin, const DriverTensor* in, int inputs, DriverTensor* out) {
  auto& p = builder(plugin_of(plugin));
  if (p.getNbOutputs() != 1) return -100;
  Expressions expressions;
  const std::vector<DimsExprs> shapes = express(in, inputs, expressions);
  std::vector<DataType> types;
  for (int i = 0; i < inputs; ++i) types.push_back(kTypes[in[i].type]);
  DimsExprs shape{};
  DataType type{};
#if NV_TENSORRT_MAJOR >= 10
  if (p.getOutputDataTypes(&type, 1, types.data(), inputs) != 0) return -101;
  const int status = p.getOutputShapes(shapes.data(), inputs, nullptr, 0, &shape, 1, expressions);
  if (status != 0) return status;
#else
  type = p.getOutputDataType(0, types.data(), inputs);
  shape = p.getOutputDimensions(0, shapes.data(), inputs, expressions);
  if (shape.nbDims < 0) return -1;
#endif
  *out = evaluate(shape, type);
  return 0;
}

DRIVER int driver_supports(Driven* plugin, int position, const DriverTensor* all, int inputs) {
  auto& p = builder(plugin_of(plugin));
#if NV_TENSORRT_MAJOR >= 10
  const auto tensors = range_all(all, inputs + 1);
#else
  const auto tensors = describe_all(all, inputs + 1, false);
#endif
  return p.supportsFormatCombination(position, tensors.data(), inputs, 1);
}

DRIVER int64_t driver_serialize(Driven* plugin, unsigned char* bytes, int64_t room) {
#if NV_TENSORRT_MAJOR >= 10
  // What a plan keeps of fields: type, length, name, data. Numbers are 8 bytes here, names end with 0.
  std::string packed;
  const auto number = [&](int64_t value) { packed.append(reinterpret_cast<const char*>(&value), 8); };
  const PluginFieldCollection& collection = *runtime(plugin_of(plugin)).getFieldsToSerialize();
  number(collection.nbFields);
  for (int i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    const int size = field.type == PluginFieldType::kCHAR ? 1 : 4;
    number(field_number(field.type));
    number(field.length);
    packed.append(field.name, std::strlen(field.name) + 1);
    packed.append(static_cast<const char*>(field.data), size_t(size) * field.length);
  }
  if (int64_t(packed.size()) <= room) std::memcpy(bytes, packed.data(), packed.size());
  return int64_t(packed.size());
#else
  Plugin& p = plugin_of(plugin);
  const int64_t count = int64_t(p.getSerializationSize());
  if (count <= room) p.serialize(bytes);
  return count;
#endif
}

DRIVER Driven* driver_deserialize(int index, const unsigned char* bytes, int64_t count) {
#if NV_TENSORRT_MAJOR >= 10
  (void)count;
  const auto number = [&] {
    int64_t value;
    std::memcpy(&value, bytes, 8);
    bytes += 8;
    return value;
  };
  std::vector<PluginField> fields(number());
  for (PluginField& field : fields) {
    field.type = field_type(int32_t(number()));
    field.length = int32_t(number());
    field.name = reinterpret_cast<const char*>(bytes);
    bytes += std::strlen(field.name) + 1;
    field.data = bytes;
    bytes += (field.type == PluginFieldType::kCHAR ? 1 : 4) * field.length;
  }
  PluginFieldCollection collection{};
  collection.nbFields = int32_t(fields.size());
  collection.fields = fields.data();
  return driven(create(index, collection, true));
#else
  return driven(static_cast<Plugin*>(creator_at(index).deserializePlugin("a node", bytes, size_t(count))));
#endif
}

DRIVER Driven* driver_clone(Driven* plugin) { return driven(plugin_of(plugin).clone()); }

DRIVER int driver_enqueue(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor* out,
                          const void* const* from, void* to, int times) {
  const auto tensors = describe_all(in, inputs, true);
  const PluginTensorDesc result = describe(*out, true);
  int status = 0;
#if NV_TENSORRT_MAJOR >= 10
  Plugin* const attached = runtime(plugin_of(plugin)).attachToContext(nullptr);
  IPluginV3OneRuntime& p = runtime(*attached);
  if (core(*attached).getPluginNamespace() != std::string("gaitedge")) status = -102;
  if (status == 0) status = p.onShapeChange(tensors.data(), inputs, &result, 1);
#else
  // As with fixed shapes: a plugin out of a plan may not be configured again.
  Plugin* const attached = plugin_of(plugin).clone();
  Plugin& p = *attached;
  if (p.getPluginNamespace() != std::string("gaitedge")) status = -102;
  if (p.getWorkspaceSize(tensors.data(), inputs, &result, 1) != 0) status = -103;
  if (status == 0) status = p.initialize();
#endif
  const int64_t before = allocations;
  for (int i = 0; i < times && status == 0; ++i) {
    status = p.enqueue(tensors.data(), &result, from, &to, nullptr, nullptr);
  }
  allocations_of_launches = allocations - before;
#if NV_TENSORRT_MAJOR < 10
  p.terminate();
#endif
  destroy(attached);
  return status;
}

DRIVER void driver_destroy(Driven* plugin) { destroy(&plugin_of(plugin)); }

DRIVER void driver_throwing(int throwing) { logger_throws = throwing != 0; }

DRIVER int driver_configure(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor* out) {
  const auto tensors = range_all(in, inputs);
  const DynamicPluginTensorDesc result = range(*out);
#if NV_TENSORRT_MAJOR >= 10
  return builder(plugin_of(plugin)).configurePlugin(tensors.data(), inputs, &result, 1);
#else
  plugin_of(plugin).configurePlugin(tensors.data(), inputs, &result, 1);
  return 0;
#endif
}
