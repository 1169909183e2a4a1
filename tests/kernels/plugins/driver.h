// One way to drive a plugin, whatever its interface: bare.cpp does so without TensorRT, tensorrt.cpp through
// TensorRT's own. tests/kernels/plugin_drivers.py mirrors it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>

#define DRIVER extern "C" __attribute__((visibility("default")))

struct DriverTensor {
  int32_t rank;
  int64_t size[8];
  int64_t known;   // bit a: the size of axis a is known when the network is built
  int32_t type;    // 0 float32, 1 float16, 2 int8
  int32_t format;  // 0 linear, 1 HWC8, 2 CHW32
};

struct DriverField {
  const char* name;
  const void* data;
  int32_t type;  // 0 int32, 1 int64, 2 float32, 3 float64, 4 char, 5 dims
  int32_t length;
};

struct Driven;  // a plugin

DRIVER int driver_count();
DRIVER const char* driver_name(int creator);         // "namespace name version"
DRIVER const char* driver_fields(int creator);       // "parts:0 slope:2 ", with the numbers of DriverField
DRIVER Driven* driver_create(int creator, const DriverField* fields, int count);  // null: refused
DRIVER int driver_output(Driven* plugin, const DriverTensor* in, int inputs, DriverTensor* out);  // 0: good
DRIVER int driver_supports(Driven* plugin, int position, const DriverTensor* all, int inputs);
DRIVER int64_t driver_serialize(Driven* plugin, unsigned char* bytes, int64_t room);
DRIVER Driven* driver_deserialize(int creator, const unsigned char* bytes, int64_t count);
DRIVER Driven* driver_clone(Driven* plugin);
// What TensorRT's builder tells a plugin before it serialises it. 0: good.
DRIVER int driver_configure(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor* out);
// A new context, then `times` launches in it.
DRIVER int driver_enqueue(Driven* plugin, const DriverTensor* in, int inputs, const DriverTensor* out,
                          const void* const* from, void* to, int times);
DRIVER void driver_destroy(Driven* plugin);
DRIVER const char* driver_log();            // what was said since it was last asked
DRIVER int64_t driver_allocations();        // made by plugins in the launches of the last driver_enqueue
DRIVER int64_t driver_allocated();          // all that was allocated so far, by plugins and drivers
DRIVER void driver_throwing(int throwing);  // whether looking for the logger throws

inline std::string& log_lines() {
  static std::string lines;
  return lines;
}
inline int64_t allocations = 0, allocations_of_launches = 0;
