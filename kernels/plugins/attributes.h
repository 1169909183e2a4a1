// A plugin's attributes, read out of TensorRT's fields or out of a plan's bytes, and written as such.
//
// Fields are the one form: bytes are fields packed one after the other, so that what was serialised goes
// through the same checks as what an ONNX node says. Nothing here allocates or throws.
//
// Bytes       A plan is read by the kind of machine that wrote it, so numbers are as that has them:
//             4 bytes that say what this is, the number of inputs (int32_t), and of each attribute in turn
//             its type, its length (both int32_t) and its data, padded to a multiple of 4.
#pragma once

#include "description.h"

namespace gaitedge {
namespace plugins {

enum class FieldType : int32_t { kInt32, kInt64, kFloat32, kFloat64, kChar, kOther };

struct Field {
  const char* name;
  const void* data;  // at any address
  FieldType type;
  int32_t length;  // how many of that type
};

// Sets state.values. Every attribute of state.description must be there once, of its kind and in its range,
// and no other field; integers may be of 32 or 64 bits, and so may real numbers; a word may end with a zero.
bool read_fields(State& state, const Field* fields, int count, Problem& problem) noexcept;

// The values as fields, which point into `state`. Returns how many: attribute_count.
int write_fields(const State& state, Field (&fields)[kMaxAttributes]) noexcept;

// The type of field that an attribute's value is written as.
FieldType field_type(Kind kind) noexcept;

size_t byte_count(const State& state) noexcept;
void write_bytes(const State& state, void* bytes) noexcept;
bool read_bytes(State& state, const void* bytes, size_t count, Problem& problem) noexcept;

}  // namespace plugins
}  // namespace gaitedge
