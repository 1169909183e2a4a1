// What GaitEdge's TensorRT plugins are, without TensorRT.
//
//   description.h             this: names, attributes, tensors, and what a plugin must say of itself
//   attributes.h, .cpp        reads attributes out of fields or bytes, and writes them
//   part_pool.cpp, focal_conv.cpp, frame_network.cpp, micro_motion.cpp    one plugin each
//   tensorrt.h                TensorRT's words to ours and back; the log
//   plugin_v2.h, plugin_v3.h  the interfaces of TensorRT 8.6 (IPluginV2DynamicExt), 10 and 11 (IPluginV3)
//   creators.cpp              what the library exports; includes one of the two by NV_TENSORRT_MAJOR
//
// All of it is host code and calls the kernels through arguments.h, so a C++ compiler suffices, and the
// objects of kernels/library are linked in as they are. Only creators.cpp sees TensorRT's headers: one
// shared library a TensorRT major. It links no TensorRT library.
//
// Loading: IPluginRegistry::loadLibrary or trtexec --dynamicPlugins. They look for getPluginCreators (8.6)
// or getCreators (10 and 11), and setLoggerFinder. The library also has the functions of arguments.h.
//
// A plugin changes nothing once it is made but the number of its inputs, holds no memory of the GPU's, and
// queues one kernel: enqueue allocates nothing, waits for nothing and can be captured in a graph.
//
// Nodes (plugin_namespace "gaitedge", plugin_version "1"); every attribute must be given:
//
//   GaitEdgePartPool      x [N, C, H, W] → [N, parts, C]
//                         parts (int)
//   GaitEdgeFocalConv     x [N, in, H, W], weight [out, k, k, in], bias [out] (float32; may be left out)
//                         → [N, out, H, W], H and W halved (rounded down) with pool 1
//                         strips (int), slope (float), pool (0 or 1)
//   GaitEdgeFrameNetwork  silhouettes [batch, frames, 64, 44] (0 to 255), weights [bytes / 2]: what
//                         frame_network.h packs, seen as halves → [batch, frames, 16, 128]
//                         slope (float)
//   GaitEdgeMicroMotion   x [batch, frames, parts, C]; with attention, of each template in turn, squeeze
//                         [parts, S, 3, C] and excite [parts, C, 2·template - 1, S]; with fc 1, fc
//                         [parts, C, dim] → float32 [batch, parts, dim], or without fc [batch, parts, C]
//                         templates (ints: 1, 2 or both), attention (0 or 1), pooling ("max" or "mean"),
//                         slope (float), fc (0 or 1)
//
// Types: float32 or float16, all alike except where said; GaitEdgeFrameNetwork takes float16 alone.
// Formats: LINEAR; and for float16 with channels in multiples of 8, HWC8 of GaitEdgePartPool's x, and of
// GaitEdgeFocalConv's x and output, both alike. Weights are node inputs, so TensorRT keeps them in the plan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gaitedge/arguments.h"

namespace gaitedge {
namespace plugins {

constexpr char kNamespace[] = "gaitedge";
constexpr char kVersion[] = "1";
constexpr int kMaxRank = 8;
constexpr int kMaxInputs = 6;  // GaitEdgeMicroMotion: x, two of each template, fc
constexpr int kMaxAttributes = 5;

// Tensors -------------------------------------------------------------------------------------------

constexpr int32_t kOtherType = -1;  // beside gaitedge::Type: one that no plugin takes

enum Format : int32_t { kLinear = 0, kHwc8 = 1, kOtherFormat = 2 };

constexpr int64_t kUnknown = -1;  // a size that is not known before the network runs

struct Shape {
  int32_t rank;
  int64_t size[kMaxRank];
};

struct Tensor {
  Shape shape;
  int32_t type;  // gaitedge::Type or kOtherType
  int32_t format;
};

// One size of the output: a number, or a size of an input, divided and rounded down.
struct Size {
  int32_t input;  // -1: a number
  int32_t axis;
  int64_t number;  // the size; or what that size of the input is divided by
};

inline Size number(int64_t value) { return {-1, 0, value}; }
inline Size size_of(int input, int axis, int64_t divisor = 1) { return {input, axis, divisor}; }

struct OutputShape {
  int32_t rank;
  Size size[kMaxRank];
};

// Problems ------------------------------------------------------------------------------------------

// Why something was refused, in one line. Holds its text itself: nothing is allocated, nothing throws.
struct Problem {
  char text[256] = "";
};

// Writes the line; returns false, so that a check can end with it.
__attribute__((format(printf, 2, 3))) bool refuse(Problem& problem, const char* format, ...) noexcept;

// Attributes ----------------------------------------------------------------------------------------

enum class Kind : int32_t { kInteger, kIntegers, kReal, kWord };

constexpr int kMaxIntegers = 2;
constexpr int kMaxSize = 1 << 20;  // of strips and the like; what a shape allows is checked with the shape

struct Attribute {
  const char* name;
  Kind kind;
  int32_t least, most;      // of each integer
  const char* const* words;  // kWord: those allowed, then null
};

struct Value {
  int32_t count;                  // of the integers
  int32_t integers[kMaxIntegers];  // kWord: which of the words
  float real;
};

struct Values {
  Value of[kMaxAttributes];  // in the order of Description::attributes
};

// A plugin ------------------------------------------------------------------------------------------

// Stateless, so it may be used from any number of threads. `in` are the inputs, `inputs` how many; sizes
// may be kUnknown.
class Description {
 public:
  virtual const char* name() const noexcept = 0;
  virtual const Attribute* attributes() const noexcept = 0;
  virtual int attribute_count() const noexcept = 0;

  // What ranges cannot say of the attributes.
  virtual bool check_values(const Values& values, Problem& problem) const noexcept;

  // Whether inputs of these shapes can be taken.
  virtual bool check_shapes(const Values& values, const Tensor* in, int inputs,
                            Problem& problem) const noexcept = 0;

  // The output's shape, where check_shapes has nothing against the inputs.
  virtual OutputShape output_shape(const Values& values, int inputs) const noexcept = 0;

  // The type that tensor `position` must have, the output being that after the last input, where x is of
  // type `type`. kOtherType where x cannot be.
  virtual int32_t type_at(const Values& values, int position, int inputs, int32_t type) const noexcept = 0;

  // Whether tensor `position` of `all`, the inputs and then the output, may have the type and format that
  // it has, given those before it.
  bool supports(const Values& values, int position, const Tensor* all, int inputs) const noexcept;

  // Queue the kernel. Checks everything first; returns what arguments.h says, kUnsupported with a line
  // in `problem` where it refuses.
  int enqueue(const Values& values, const Tensor* in, const Tensor& out, int inputs, const void* const* from,
              void* to, void* stream, Problem& problem) const noexcept;

 protected:
  virtual ~Description() = default;

  // Whether tensor `position` may be in its format, given those before it. Here: kLinear alone.
  virtual bool format_fits(int position, const Tensor* all, int inputs) const noexcept;

  virtual int launch(const Values& values, const Tensor* in, int inputs, const void* const* from, void* to,
                     void* stream) const noexcept = 0;
};

// A plugin, as far as it is no TensorRT.
struct State {
  const Description* description;
  Values values;
  int32_t inputs;  // how many the node has; 0 while nobody has said it
};

const Description& part_pool();
const Description& focal_conv();
const Description& frame_network();
const Description& micro_motion();

constexpr int kDescriptions = 4;
const Description& description(int index);  // 0 to kDescriptions - 1

// Helpers of the descriptions -------------------------------------------------------------------------

inline bool is_float(int32_t type) { return type == kFloat32 || type == kFloat16; }

// Whether these sizes can be the same.
inline bool alike(int64_t a, int64_t b) { return a == b || a == kUnknown || b == kUnknown; }

// Whether `size` is known and `least` is not reached.
inline bool below(int64_t size, int64_t least) { return size != kUnknown && size < least; }

bool check_rank(const Tensor& tensor, int rank, const char* name, Problem& problem) noexcept;

// Whether HWC8 holds this tensor without padding: as our kernels read channels last.
inline bool fits_hwc8(const Tensor& t) {
  const int64_t channels = t.shape.size[1];
  return t.format == kHwc8 && t.type == kFloat16 && t.shape.rank == 4 && channels > 0 && channels % 8 == 0;
}

}  // namespace plugins
}  // namespace gaitedge
