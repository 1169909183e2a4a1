// The machine under gaitedge/host.h: fibers, barriers, meetings of warps, and late copies.
#include "gaitedge/host.h"

#include <csetjmp>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <ucontext.h>
#include <vector>

#include "gaitedge/arguments.h"

namespace gaitedge::host {

dim3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr int kLanes = 32;
constexpr size_t kStack = 128 * 1024;
constexpr size_t kAlignment = 128;  // of shared memory, in bytes
constexpr size_t kGuard = 256;  // bytes past the end of shared memory that nobody may write
constexpr unsigned char kPoison = 0xff, kGuarded = 0xa5;

enum class State { kReady, kMeeting, kAtBarrier, kDone };

struct Copy {
  void* to;
  const void* from;  // null: zeros
};

struct Fiber {
  jmp_buf where;
  ucontext_t birth;
  std::vector<char> stack;
  bool born = false;
  State state = State::kReady;
  dim3 index;
  std::vector<std::vector<Copy>> groups;  // of asynchronous copies; the last one is open
};

struct Warp {
  int arrived = 0;
  Work work = nullptr;
  int argument = 0;
  const void* in[kLanes];
  void* out[kLanes];
};

std::vector<Fiber> fibers;  // kept from launch to launch: their stacks are
std::vector<Warp> warps;
std::vector<unsigned char> memory;
size_t memory_size = 0;
jmp_buf scheduler;
ucontext_t scheduler_context;
int running = -1;  // the fiber that runs
const std::function<void()>* current_kernel = nullptr;
std::string failure;
unsigned order_seed = 0;

void fail(const std::string& what) {
  if (failure.empty()) {
    char where[96];
    std::snprintf(where, sizeof where, " (block %u,%u,%u)", block_index.x, block_index.y, block_index.z);
    failure = what + where;
  }
}

// Back to the scheduler; goes on from here when the fiber runs again.
__attribute__((noinline)) void leave() {
  if (_setjmp(fibers[running].where) == 0) _longjmp(scheduler, 1);
}

void arrive(Fiber& fiber, size_t pending) {
  while (fiber.groups.size() > pending + 1) {
    for (const Copy& copy : fiber.groups.front()) {
      if (copy.from) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
    fiber.groups.erase(fiber.groups.begin());
  }
}

void live() {
  for (;;) {  // a fiber serves block after block
    (*current_kernel)();
    Fiber& fiber = fibers[running];
    fiber.groups.emplace_back();
    arrive(fiber, 0);
    fiber.state = State::kDone;
    leave();
  }
}

// Let a fiber run until it waits or is done.
__attribute__((noinline)) void enter(int number) {
  running = number;
  Fiber& fiber = fibers[number];
  thread_index = fiber.index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.born) _longjmp(fiber.where, 1);
  fiber.born = true;
  swapcontext(&scheduler_context, &fiber.birth);
}

void give_birth(size_t count) {
  for (size_t number = fibers.size(); number < count; ++number) {
    Fiber& fiber = fibers.emplace_back();
    fiber.stack.resize(kStack);
  }
  for (size_t number = 0; number < fibers.size(); ++number) {
    Fiber& fiber = fibers[number];
    fiber.born = false;
    getcontext(&fiber.birth);
    fiber.birth.uc_stack.ss_sp = fiber.stack.data();
    fiber.birth.uc_stack.ss_size = fiber.stack.size();
    fiber.birth.uc_link = nullptr;
    makecontext(&fiber.birth, live, 0);
  }
}

// 0: as they are numbered; 1: backwards; more: shuffled by that seed.
std::vector<int> order_of(int count, unsigned seed) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (seed == 1) {
    std::reverse(order.begin(), order.end());
  } else if (seed > 1) {
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  }
  return order;
}

// Run a warp until no lane of it can go on. False: something is wrong.
bool run_warp(int warp, const std::vector<int>& lanes) {
  for (bool moved = true; moved;) {
    moved = false;
    for (int lane : lanes) {
      const int number = warp * kLanes + lane;
      if (fibers[number].state == State::kReady) {
        enter(number);
        moved = true;
        if (!failure.empty()) return false;
      }
    }
  }
  if (warps[warp].arrived > 0) {
    fail("a warp function was not reached by all 32 lanes of a warp");
    return false;
  }
  return true;
}

bool run_block(int threads) {
  unsigned char* const end = shared_memory() + memory_size;
  std::fill(shared_memory(), end, kPoison);
  std::fill(end, end + kGuard, kGuarded);
  for (int number = 0; number < threads; ++number) {
    fibers[number].state = State::kReady;
    fibers[number].groups.assign(1, {});
  }
  for (Warp& warp : warps) warp.arrived = 0;
  const int count = threads / kLanes;
  const std::vector<int> order = order_of(count, order_seed);
  const std::vector<int> lanes = order_of(kLanes, order_seed);
  for (;;) {
    for (int warp : order) {
      if (!run_warp(warp, lanes)) return false;
    }
    int done = 0;
    for (int number = 0; number < threads; ++number) done += fibers[number].state == State::kDone;
    if (done == threads) break;
    if (done > 0) {
      fail("threads returned while others wait at a barrier");
      return false;
    }
    for (int number = 0; number < threads; ++number) fibers[number].state = State::kReady;
  }
  const bool kept = std::all_of(end, end + kGuard, [](unsigned char byte) { return byte == kGuarded; });
  if (!kept) fail("shared memory was written past its end");
  return kept;
}

}  // namespace

int run(const std::function<void()>& kernel, dim3 grid, dim3 block, size_t shared) {
  failure.clear();
  grid_size = grid;
  block_size = block;
  const int threads = static_cast<int>(block.x * block.y * block.z);
  if (threads % kLanes != 0 || threads == 0 || threads > 1024) {
    fail("a block must be 32 to 1024 threads, a multiple of 32");
    return kFailed;
  }
  give_birth(threads);
  warps.assign(threads / kLanes, Warp());
  memory_size = shared;
  memory.resize(shared + kGuard + kAlignment);
  current_kernel = &kernel;
  for (int number = 0; number < threads; ++number) {
    const unsigned n = number;
    fibers[number].index = dim3(n % block.x, n / block.x % block.y, n / (block.x * block.y));
  }
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = dim3(x, y, z);
        if (!run_block(threads)) return kFailed;
      }
    }
  }
  return 0;
}

unsigned char* shared_memory() {
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (kAlignment - address % kAlignment) % kAlignment;
}

void block_barrier() {
  fibers[running].state = State::kAtBarrier;
  leave();
}

void meet(const void* in, void* out, Work work, int argument) {
  const int number = running, lane = number % kLanes, first = number - lane;
  Warp& warp = warps[number / kLanes];
  if (warp.arrived == 0) {
    warp.work = work;
    warp.argument = argument;
  } else if (warp.work != work || warp.argument != argument) {
    fail("lanes of a warp called different warp functions at once");
    leave();
  }
  warp.in[lane] = in;
  warp.out[lane] = out;
  if (++warp.arrived < kLanes) {
    fibers[number].state = State::kMeeting;
    leave();
    return;
  }
  warp.arrived = 0;
  work(warp.in, warp.out, argument);
  for (int other = 0; other < kLanes; ++other) {
    fibers[first + other].state = State::kReady;
  }
}

void copy_async16(void* shared, const void* global, bool there) {
  const auto to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
  if (to % 16 || (there && from % 16)) {
    fail("an asynchronous copy's address is no multiple of 16");
    leave();
  }
  fibers[running].groups.back().push_back({shared, there ? global : nullptr});
}

void copy_commit() { fibers[running].groups.emplace_back(); }

void copy_wait(int pending) { arrive(fibers[running], pending); }

namespace {

struct MatrixA {
  uint32_t a[4], b[2];
};

void fragments(const void* const* in, float (&a)[16][16], float (&b)[16][8]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& own = *static_cast<const MatrixA*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const float2 two = unpack(own.a[i]);
      a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)] = two.x;
      a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + 1] = two.y;
    }
    for (int i = 0; i < 2; ++i) {
      const float2 two = unpack(own.b[i]);
      b[2 * t + 8 * i][g] = two.x;
      b[2 * t + 8 * i + 1][g] = two.y;
    }
  }
}

void multiplied_f16(const void* const* in, void* const* out, int) {
  float a[16][16], b[16][8], c[16][8] = {};
  fragments(in, a, b);
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* own = static_cast<float*>(out[lane]);
    for (int i = 0; i < 4; ++i) own[i] += c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

void multiplied_s8(const void* const* in, void* const* out, int is_unsigned) {
  int a[16][32], b[32][8], c[16][8] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& own = *static_cast<const MatrixA*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int byte = 0; byte < 4; ++byte) {
      for (int i = 0; i < 4; ++i) {
        const auto bits = static_cast<uint8_t>(own.a[i] >> (8 * byte));
        a[g + 8 * (i % 2)][4 * t + 16 * (i / 2) + byte] = is_unsigned ? int(bits) : int(int8_t(bits));
      }
      for (int i = 0; i < 2; ++i) b[4 * t + 16 * i + byte][g] = int8_t(own.b[i] >> (8 * byte));
    }
  }
  for (int k = 0; k < 32; ++k) {
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* own = static_cast<int32_t*>(out[lane]);
    for (int i = 0; i < 4; ++i) own[i] += c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

void loaded(const void* const* in, void* const* out, int) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto* row = *static_cast<const unsigned char* const*>(in[8 * matrix + lane / 4]);
      std::memcpy(static_cast<uint32_t*>(out[lane]) + matrix, row + 4 * (lane % 4), 4);
    }
  }
}

}  // namespace

void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MatrixA own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  meet(&own, c, multiplied_f16, 0);
}

void mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_unsigned) {
  const MatrixA own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  meet(&own, c, multiplied_s8, is_unsigned);
}

void load_matrices(uint32_t (&r)[4], const void* row) {
  const auto address = reinterpret_cast<uintptr_t>(row);
  const auto start = reinterpret_cast<uintptr_t>(shared_memory());
  if (address % 16 || address < start || address + 16 > start + memory_size) {
    fail("load_matrices: an address is no multiple of 16 in shared memory");
    leave();
  }
  meet(&row, r, loaded, 0);
}

void nothing(const void* const*, void* const*, int) {}

void voted(const void* const* in, void* const* out, int) {
  unsigned votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) votes |= unsigned(*static_cast<const int*>(in[lane]) != 0) << lane;
  for (int lane = 0; lane < kLanes; ++lane) *static_cast<unsigned*>(out[lane]) = votes;
}

}  // namespace gaitedge::host

// In which order warps and lanes run: 0 as numbered, 1 backwards, more a shuffle by that seed.
GAITEDGE_API void gaitedge_host_order(unsigned seed) { gaitedge::host::order_seed = seed; }

// What made the last launch return kFailed.
GAITEDGE_API const char* gaitedge_host_failure() { return gaitedge::host::failure.c_str(); }
