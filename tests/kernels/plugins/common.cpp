// What all drivers share: the log, and a count of what is allocated.
#include "driver.h"

void* operator new(size_t size) {
  ++allocations;
  void* const memory = std::malloc(size ? size : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

DRIVER const char* driver_log() {
  static std::string shown;
  shown = log_lines();
  log_lines().clear();
  return shown.c_str();
}

DRIVER int64_t driver_allocations() { return allocations_of_launches; }

DRIVER int64_t driver_allocated() { return allocations; }
