// The plugins' descriptions by themselves: what any interface of TensorRT would have them do.
#include "attributes.h"
#include "driver.h"
#include "gaitedge/frame_network_weights.h"

using namespace gaitedge;
using namespace gaitedge::plugins;

struct Driven {
  State state;
};

namespace {

Tensor tensor_of(const DriverTensor& t) {
  Tensor tensor{};
  tensor.shape.rank = t.rank;
  for (int axis = 0; axis < t.rank; ++axis) {
    tensor.shape.size[axis] = t.known >> axis & 1 ? t.size[axis] : kUnknown;
  }
  tensor.type = t.type == 0 ? int32_t(kFloat32) : t.type == 1 ? int32_t(kFloat16) : kOtherType;
  tensor.format = t.format;
  return tensor;
}

Driven* keep(const State& state, bool good, const Problem& problem) {
  if (good) return new Driven{state};
  log_lines() += std::string(state.description->name()) + ": " + problem.text + "\n";
  return nullptr;
}

}  // namespace

DRIVER int driver_count() { return kDescriptions; }

DRIVER const char* driver_name(int creator) {
  static std::string name;
  name = std::string(kNamespace) + " " + description(creator).name() + " " + kVersion;
  return name.c_str();
}

DRIVER const char* driver_fields(int creator) {
  static std::string fields;
  fields.clear();
  const Description& d = description(creator);
  for (int i = 0; i < d.attribute_count(); ++i) {
    const int type = int(field_type(d.attributes()[i].kind));
    fields += std::string(d.attributes()[i].name) + ":" + std::to_string(type) + " ";
  }
  return fields.c_str();
}

DRIVER Driven* driver_create(int creator, const DriverField* fields, int count) {
  State state{&description(creator), {}, 0};
  Problem problem;
  Field given[16];
  for (int i = 0; i < count; ++i) {
    given[i] = {fields[i].name, fields[i].data, FieldType(fields[i].type), fields[i].length};
  }
  const bool good = read_fields(state, given, count, problem);
  return keep(state, good, problem);
}

DRIVER int driver_output(Driven* plugin, const DriverTensor* in, int inputs, DriverTensor* out) {
  State& state = plugin->state;
  Tensor tensors[16];
  for (int i = 0; i < inputs; ++i) tensors[i] = tensor_of(in[i]);
  Problem problem;
  if (!state.description->check_shapes(state.values, tensors, inputs, problem)) {
    log_lines() += std::string(state.description->name()) + ": " + problem.text + "\n";
    return -1;
  }
  state.inputs = inputs;
  const OutputShape shape = state.description->output_shape(state.values, inputs);
  *out = {};
  out->rank = shape.rank;
  for (int axis = 0; axis < shape.rank; ++axis) {
    const Size& size = shape.size[axis];
    out->size[axis] = size.input < 0 ? size.number : in[size.input].size[size.axis] / size.number;
    out->known |= int64_t(size.input < 0 || (in[size.input].known >> size.axis & 1)) << axis;
  }
  out->type = state.description->type_at(state.values, inputs, inputs, tensors[0].type);
  return 0;
}

DRIVER int driver_supports(Driven* plugin, int position, const DriverTensor* all, int inputs) {
  Tensor tensors[16];
  for (int i = 0; i <= position; ++i) tensors[i] = tensor_of(all[i]);
  return plugin->state.description->supports(plugin->state.values, position, tensors, inputs);
}

DRIVER int64_t driver_serialize(Driven* plugin, unsigned char* bytes, int64_t room) {
  const int64_t count = int64_t(byte_count(plugin->state));
  if (count <= room) write_bytes(plugin->state, bytes);
  return count;
}

DRIVER Driven* driver_deserialize(int creator, const unsigned char* bytes, int64_t count) {
  State state{&description(creator), {}, 0};
  Problem problem;
  const bool good = read_bytes(state, bytes, size_t(count), problem);
  return keep(state, good, problem);
}

DRIVER int driver_configure(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor*) {
  State& state = plugin->state;
  Tensor tensors[16];
  for (int i = 0; i < inputs; ++i) tensors[i] = tensor_of(in[i]);
  Problem problem;
  state.inputs = inputs;
  return state.description->check_shapes(state.values, tensors, inputs, problem) ? 0 : -1;
}

// Halves of the packed frame network, as the kernel has it.
DRIVER int driver_packed_halves() { return frame_network::packed_bytes(2) / 2; }

DRIVER Driven* driver_clone(Driven* plugin) { return new Driven(*plugin); }

DRIVER int driver_enqueue(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor* out,
                          const void* const* from, void* to, int times) {
  const State& state = plugin->state;
  Tensor tensors[16];
  for (int i = 0; i < inputs; ++i) tensors[i] = tensor_of(in[i]);
  const Tensor result = tensor_of(*out);
  Problem problem;
  const int64_t before = allocations;
  int status = 0;
  for (int i = 0; i < times && status == 0; ++i) {
    status = state.description->enqueue(state.values, tensors, result, inputs, from, to, nullptr, problem);
  }
  allocations_of_launches = allocations - before;
  if (status != 0) log_lines() += std::string(state.description->name()) + ": " + problem.text + "\n";
  return status;
}

DRIVER void driver_destroy(Driven* plugin) { delete plugin; }

DRIVER void driver_throwing(int) {}
