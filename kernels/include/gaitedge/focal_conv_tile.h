// FConv: which pixels a block computes, what it must have of x for them, and how it writes y.
//
// All images' rows together make one tall map, cut into strips; an image's edge is a strip's edge. It is
// cut into panels of at most 32 columns, and a block takes kPixels pixels of one panel one after the
// other, row by row, so that maps of 22 or 11 columns waste none. Where a max-pool follows these are
// kPixels / 4 windows, so that a window's four pixels lie in one thread.
//
// Of x a block stages the rectangle around its pixels, without any padding. For each tap a pixel's lane
// asks where the tap's pixel is in that rectangle, and is sent to one record of zeros where the tap lies
// outside the map or in another strip. So neither strips nor edges need tiles of their own.
#pragma once

#include <type_traits>

#include "gaitedge/arguments.h"
#include "gaitedge/platform.h"

namespace gaitedge {
namespace focal_conv {

constexpr int kThreads = 128;
constexpr int kPixels = 128;  // that a block computes, before pooling
constexpr int kPanel = 32;    // columns of a panel at most, before pooling

template <class T>
using Sum = std::conditional_t<std::is_same_v<T, int8_t>, int32_t, float>;

// A launch: its arguments, and what follows from them.
struct Plan {
  FocalConv a;
  int scale_of_pool;          // 2 where pooled, or 1
  int out_height, out_width;  // of y
  int positions;              // of y that a block computes
  int panels, panel_width;    // of y
  int records;                // pixels of x that a block has at once, at most
  int chunk;                  // direct kernel: input channels at a time
};

inline Plan make_plan(const FocalConv& a) {
  Plan plan{};
  plan.a = a;
  plan.scale_of_pool = a.pool ? 2 : 1;
  plan.out_height = a.height / plan.scale_of_pool;
  plan.out_width = a.width / plan.scale_of_pool;
  plan.positions = a.pool ? kPixels / 4 : kPixels;
  if (plan.out_height == 0 || plan.out_width == 0) return plan;  // nothing to compute
  plan.panels = ceil_div(plan.out_width, kPanel / plan.scale_of_pool);
  plan.panel_width = ceil_div(plan.out_width, plan.panels);
  // Rows of y that positions one after the other can touch, then the rows of x from the first to the last
  // of them: each image of odd height has one that no window uses.
  const int further = ceil_div(plan.positions - 1, plan.panel_width);
  const int unused = a.height - plan.out_height * plan.scale_of_pool;
  const int rows =
      further * plan.scale_of_pool + ceil_div(further, plan.out_height) * unused + plan.scale_of_pool;
  const int columns = plan.panel_width * plan.scale_of_pool + a.kernel - 1;
  plan.records = (rows + a.kernel - 1) * (columns < a.width ? columns : a.width);
  return plan;
}

// What one block computes. Rows are counted through all images.
struct Tile {
  int row, column;                         // of y, of the first position; the column within the panel
  int panel_column;                        // of y, where the panel begins
  int x_row, x_rows, x_column, x_columns;  // the rectangle of x

  __device__ __forceinline__ Tile(const Plan& plan, int panel) {
    const FocalConv& a = plan.a;
    const int64_t first = int64_t(blockIdx.x) * plan.positions;
    const int64_t all = int64_t(a.count) * plan.out_height * plan.panel_width;
    const int64_t last = (first + plan.positions < all ? first + plan.positions : all) - 1;
    const int last_row = int(last / plan.panel_width), scale = plan.scale_of_pool, radius = a.kernel / 2;
    row = int(first / plan.panel_width);
    column = int(first % plan.panel_width);
    panel_column = panel * plan.panel_width;

    // No tap leaves the strips of the first and the last row.
    int y = row % plan.out_height * scale, image = row / plan.out_height * a.height;
    const int top = strip_start(a.height, a.strips, strip_of(a.height, a.strips, y));
    x_row = image + (y - radius > top ? y - radius : top);
    y = last_row % plan.out_height * scale + scale - 1;
    image = last_row / plan.out_height * a.height;
    const int bottom = strip_start(a.height, a.strips, strip_of(a.height, a.strips, y) + 1);
    x_rows = image + (y + radius + 1 < bottom ? y + radius + 1 : bottom) - x_row;

    const int left = panel_column * scale - radius;
    const int right = (panel_column + plan.panel_width) * scale + radius;
    x_column = left > 0 ? left : 0;
    x_columns = (right < a.width ? right : a.width) - x_column;
  }

  // Where column `c` of the rectangle lies in a row of records. Before a pool neighbouring lanes have
  // every second column, so the even ones come first: they are then neighbours in shared memory too.
  __device__ __forceinline__ int place(const Plan& plan, int c) const {
    return plan.a.pool ? (c >> 1) + (c & 1) * ((x_columns + 1) >> 1) : c;
  }
};

// A position of y, of a block's `j`-th.
struct Position {
  int row, column;
  bool there;

  __device__ __forceinline__ Position(const Plan& plan, const Tile& tile, int j) {
    const int further = tile.column + j, rows = further / plan.panel_width;
    row = tile.row + rows;
    column = tile.panel_column + further - rows * plan.panel_width;
    there = row < plan.a.count * plan.out_height && column < plan.out_width;
  }
};

// A pixel that a thread computes, and where its taps are among the block's records.
struct Pixel {
  int start, column;  // of its tap 0, 0: the record at which that row starts, and the column in it
  unsigned taps;      // bit i: the taps' row i is in the strip; bit 8 + i: column i is in the map

  // Pixel `corner` (0 to 3) of position `j`'s window; 0 without a pool.
  __device__ __forceinline__ Pixel(const Plan& plan, const Tile& tile, int j, int corner) {
    const FocalConv& a = plan.a;
    const Position position(plan, tile, j);
    const int image = position.row / plan.out_height;
    const int y = (position.row - image * plan.out_height) * plan.scale_of_pool + (corner >> 1);
    const int x = position.column * plan.scale_of_pool + (corner & 1), radius = a.kernel / 2;
    start = (image * a.height + y - radius - tile.x_row) * tile.x_columns;
    column = x - radius - tile.x_column;
    taps = 0;
    if (!position.there) return;
    const int strip = strip_of(a.height, a.strips, y);
    const int top = strip_start(a.height, a.strips, strip),
              bottom = strip_start(a.height, a.strips, strip + 1);
    for (int i = 0; i < a.kernel; ++i) {
      const int row = y - radius + i, col = x - radius + i;
      taps |= unsigned(row >= top && row < bottom) << i | unsigned(col >= 0 && col < a.width) << (8 + i);
    }
  }

  __device__ __forceinline__ int record(const Plan& plan, const Tile& tile, int tap_row,
                                        int tap_column) const {
    const bool there = (taps >> tap_row) & (taps >> (8 + tap_column)) & 1u;
    return there ? start + tap_row * tile.x_columns + tile.place(plan, column + tap_column) : plan.records;
  }
};

// The index of an element of a tensor of `channels` in `layout`; rows are counted through all images.
__device__ __forceinline__ int64_t element(int layout, int channels, int height, int width, int row,
                                           int column, int channel) {
  if (layout == kChannelsLast) return (int64_t(row) * width + column) * channels + channel;
  const int block = layout == kChannels32 ? 32 : 1, image = row / height;
  const int64_t plane = int64_t(image) * ceil_div(channels, block) + channel / block;
  return ((plane * height + row % height) * width + column) * block + channel % block;
}

// Bias and activation of one sum.
template <class X, class T>
__device__ __forceinline__ float activated(Sum<T> sum, float scale, float bias, float slope) {
  float value = static_cast<float>(sum);
  if constexpr (std::is_same_v<T, int8_t>) {
    value *= scale;
  } else if constexpr (std::is_same_v<X, uint8_t>) {
    value *= 1.f / 255.f;  // a division is a dozen instructions and a branch, for each of 32 sums
  }
  return leaky_relu(value + bias, slope);
}

// What output channel `channel` is worth, and its bias; 0 beyond the last one.
template <class T>
__device__ __forceinline__ float2 scale_and_bias(const FocalConv& a, int channel) {
  const bool there = channel < a.out;
  const bool scaled = there && std::is_same_v<T, int8_t>, biased = there && a.bias;
  return make_float2(scaled ? a.scale[channel] : 0.f, biased ? a.bias[channel] : 0.f);
}

// Results pass through shared memory, [position][output channel], so that they are written in order.
// Bytes from one position to the next: an odd number of words where y has its channels first, and room for
// an empty unit where it is read in units of 16 bytes.
template <class T, int Out>
__device__ __forceinline__ int result_stride(const Plan& plan) {
  return Out * int(sizeof(T)) + (plan.a.layout == kChannelsFirst ? 4 : 16);
}

// Two neighbouring channels.
template <class T>
__device__ __forceinline__ void put(unsigned char* to, float low, float high, float inverse_scale) {
  if constexpr (std::is_same_v<T, half_t>) {
    *reinterpret_cast<uint32_t*>(to) = pack_half2(low, high);
  } else if constexpr (std::is_same_v<T, int8_t>) {
    const int first = quantize(low, inverse_scale), second = quantize(high, inverse_scale);
    *reinterpret_cast<uint16_t*>(to) = uint16_t((first & 0xff) | second << 8);
  } else {
    reinterpret_cast<float*>(to)[0] = low;
    reinterpret_cast<float*>(to)[1] = high;
  }
}

// `Word` is as many channels as are written at once.
template <class T, int Out, class Word>
__device__ __forceinline__ void store_channels_last(const Plan& plan, const Tile& tile,
                                                    const unsigned char* results, int out, int channels) {
  constexpr int kValues = int(sizeof(Word) / sizeof(T)), kWords = Out / kValues;
  const int stride = result_stride<T, Out>(plan), channel = int(threadIdx.x) % kWords * kValues;
  if (channel >= channels) return;
  for (int j = int(threadIdx.x) / kWords; j < plan.positions; j += kThreads / kWords) {
    const Position position(plan, tile, j);
    if (!position.there) continue;
    const int64_t at = element(plan.a.layout, plan.a.out, plan.out_height, plan.out_width, position.row,
                               position.column, out + channel);
    *reinterpret_cast<Word*>(static_cast<T*>(plan.a.y) + at) =
        *reinterpret_cast<const Word*>(results + j * stride + channel * int(sizeof(T)));
  }
}

// Writes the block's results, whose first output channel is `out`.
template <class T, int Out>
__device__ __forceinline__ void store(const Plan& plan, const Tile& tile, const unsigned char* results,
                                      int out) {
  const FocalConv& a = plan.a;
  const int all = a.layout == kChannels32 ? round_up(a.out, 32) : a.out;  // CHW32: zeros fill the last 32
  const int channels = all - out < Out ? all - out : Out;
  if (a.layout == kChannelsFirst) {
    const int stride = result_stride<T, Out>(plan), j = int(threadIdx.x) % plan.positions;
    const Position position(plan, tile, j);
    if (!position.there) return;
    T* y = static_cast<T*>(a.y) +
           element(a.layout, a.out, plan.out_height, plan.out_width, position.row, position.column, out);
    const int64_t map = int64_t(plan.out_height) * plan.out_width;
    for (int channel = int(threadIdx.x) / plan.positions; channel < channels;
         channel += kThreads / plan.positions) {
      y[channel * map] = *reinterpret_cast<const T*>(results + j * stride + channel * int(sizeof(T)));
    }
  } else if (all % (16 / int(sizeof(T))) == 0) {
    store_channels_last<T, Out, uint4>(plan, tile, results, out, channels);
  } else {
    store_channels_last<T, Out, T>(plan, tile, results, out, channels);
  }
}

}  // namespace focal_conv
}  // namespace gaitedge
