#include "attributes.h"

#include <cmath>
#include <cstring>

namespace gaitedge {
namespace plugins {
namespace {

constexpr uint32_t kMark = 0x31704547;  // "GEp1": the form of the bytes
constexpr int32_t kMaxLength = 64;  // of an attribute's data, in numbers or characters

struct Head {
  uint32_t mark;
  int32_t inputs;
};

struct FieldHead {
  FieldType type;
  int32_t length;
};

size_t size_of_type(FieldType type) {
  switch (type) {
    case FieldType::kInt32:
    case FieldType::kFloat32:
      return 4;
    case FieldType::kInt64:
    case FieldType::kFloat64:
      return 8;
    case FieldType::kChar:
      return 1;
    default:
      return 0;
  }
}

template <class T>
T element(const Field& field, int index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(field.data) + index * sizeof(T), sizeof(T));
  return value;
}

bool read_integers(const Attribute& attribute, const Field& field, Value& value, Problem& problem) {
  const bool wide = field.type == FieldType::kInt64;
  if (!wide && field.type != FieldType::kInt32) {
    return refuse(problem, "attribute %s must be of integers", attribute.name);
  }
  const int most = attribute.kind == Kind::kInteger ? 1 : kMaxIntegers;
  if (field.length > most) {
    return refuse(problem, "attribute %s takes up to %d integers, not %d", attribute.name, most,
                  int(field.length));
  }
  for (int i = 0; i < field.length; ++i) {
    const int64_t number = wide ? element<int64_t>(field, i) : element<int32_t>(field, i);
    if (number < attribute.least || number > attribute.most) {
      return refuse(problem, "attribute %s must be %d to %d, not %lld", attribute.name, int(attribute.least),
                    int(attribute.most), static_cast<long long>(number));
    }
    value.integers[i] = int32_t(number);
  }
  value.count = field.length;
  return true;
}

bool read_real(const Attribute& attribute, const Field& field, Value& value, Problem& problem) {
  const bool wide = field.type == FieldType::kFloat64;
  if ((!wide && field.type != FieldType::kFloat32) || field.length != 1) {
    return refuse(problem, "attribute %s must be one float", attribute.name);
  }
  value.real = wide ? float(element<double>(field, 0)) : element<float>(field, 0);
  if (!std::isfinite(value.real)) return refuse(problem, "attribute %s must be finite", attribute.name);
  return true;
}

bool read_word(const Attribute& attribute, const Field& field, Value& value, Problem& problem) {
  if (field.type != FieldType::kChar) return refuse(problem, "attribute %s must be a string", attribute.name);
  const char* const text = static_cast<const char*>(field.data);
  const size_t length = strnlen(text, size_t(field.length));
  for (int i = 0; attribute.words[i]; ++i) {
    if (std::strlen(attribute.words[i]) == length && std::memcmp(attribute.words[i], text, length) == 0) {
      value.integers[0] = i;
      return true;
    }
  }
  char shown[41] = "";
  for (size_t i = 0; i < length && i < sizeof shown - 1; ++i) {
    shown[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';  // a log takes text, whatever this was
  }
  return refuse(problem, "attribute %s cannot be \"%s\"", attribute.name, shown);
}

bool read_field(const Attribute& attribute, const Field& field, Value& value, Problem& problem) {
  if (!field.data || field.length < 1) return refuse(problem, "attribute %s is empty", attribute.name);
  switch (attribute.kind) {
    case Kind::kReal:
      return read_real(attribute, field, value, problem);
    case Kind::kWord:
      return read_word(attribute, field, value, problem);
    default:
      return read_integers(attribute, field, value, problem);
  }
}

int find(const Description& description, const char* name) {
  for (int i = 0; i < description.attribute_count(); ++i) {
    if (std::strcmp(description.attributes()[i].name, name) == 0) return i;
  }
  return -1;
}

size_t padded(size_t bytes) { return (bytes + 3) / 4 * 4; }

}  // namespace

FieldType field_type(Kind kind) noexcept {
  if (kind == Kind::kReal) return FieldType::kFloat32;
  return kind == Kind::kWord ? FieldType::kChar : FieldType::kInt32;
}

bool read_fields(State& state, const Field* fields, int count, Problem& problem) noexcept {
  const Description& description = *state.description;
  bool given[kMaxAttributes] = {};
  state.values = Values{};
  if (count > 0 && !fields) return refuse(problem, "the fields are missing");
  for (int i = 0; i < count; ++i) {
    if (!fields[i].name) return refuse(problem, "field %d has no name", i);
    const int which = find(description, fields[i].name);
    if (which < 0) return refuse(problem, "there is no attribute %.80s", fields[i].name);
    const Attribute& attribute = description.attributes()[which];
    if (given[which]) return refuse(problem, "attribute %s is given twice", attribute.name);
    given[which] = true;
    if (!read_field(attribute, fields[i], state.values.of[which], problem)) return false;
  }
  for (int i = 0; i < description.attribute_count(); ++i) {
    if (!given[i]) return refuse(problem, "attribute %s is missing", description.attributes()[i].name);
  }
  return description.check_values(state.values, problem);
}

int write_fields(const State& state, Field (&fields)[kMaxAttributes]) noexcept {
  const int count = state.description->attribute_count();
  for (int i = 0; i < count; ++i) {
    const Attribute& attribute = state.description->attributes()[i];
    const Value& value = state.values.of[i];
    fields[i] = {attribute.name, value.integers, field_type(attribute.kind), value.count};
    if (attribute.kind == Kind::kReal) {
      fields[i].data = &value.real;
      fields[i].length = 1;
    } else if (attribute.kind == Kind::kWord) {
      fields[i].data = attribute.words[value.integers[0]];
      fields[i].length = int32_t(std::strlen(attribute.words[value.integers[0]]));
    }
  }
  return count;
}

size_t byte_count(const State& state) noexcept {
  Field fields[kMaxAttributes];
  size_t bytes = sizeof(Head);
  for (int i = 0, count = write_fields(state, fields); i < count; ++i) {
    bytes += sizeof(FieldHead) + padded(size_of_type(fields[i].type) * fields[i].length);
  }
  return bytes;
}

void write_bytes(const State& state, void* bytes) noexcept {
  Field fields[kMaxAttributes];
  char* to = static_cast<char*>(bytes);
  const Head head{kMark, state.inputs};
  std::memcpy(to, &head, sizeof head);
  to += sizeof head;
  for (int i = 0, count = write_fields(state, fields); i < count; ++i) {
    const FieldHead field{fields[i].type, fields[i].length};
    const size_t size = size_of_type(field.type) * field.length;
    std::memcpy(to, &field, sizeof field);
    std::memset(to + sizeof field, 0, padded(size));
    std::memcpy(to + sizeof field, fields[i].data, size);
    to += sizeof field + padded(size);
  }
}

bool read_bytes(State& state, const void* bytes, size_t count, Problem& problem) noexcept {
  const Description& description = *state.description;
  Field fields[kMaxAttributes];
  const char* from = static_cast<const char*>(bytes);
  Head head{};
  if (from && count >= sizeof head) std::memcpy(&head, from, sizeof head);
  if (head.mark != kMark || head.inputs < 0 || head.inputs > kMaxInputs) {
    return refuse(problem, "its part of the plan was not written by this version of the library");
  }
  state.inputs = head.inputs;
  from += sizeof head;
  count -= sizeof head;
  for (int i = 0; i < description.attribute_count(); ++i) {
    FieldHead field{FieldType::kOther, 0};
    if (count >= sizeof field) std::memcpy(&field, from, sizeof field);
    const bool sound = field.length > 0 && field.length <= kMaxLength;
    const size_t size = sound ? size_of_type(field.type) * field.length : 0;
    if (size == 0 || count < sizeof field + padded(size)) {
      const char* const name = description.attributes()[i].name;
      return refuse(problem, "its part of the plan is damaged at attribute %s", name);
    }
    fields[i] = {description.attributes()[i].name, from + sizeof field, field.type, field.length};
    from += sizeof field + padded(size);
    count -= sizeof field + padded(size);
  }
  if (count != 0) return refuse(problem, "its part of the plan is %zu bytes too long", count);
  return read_fields(state, fields, description.attribute_count(), problem);
}

}  // namespace plugins
}  // namespace gaitedge
