// The library's interface in C: one function a kernel, each with a struct of pointers and numbers.
//
// Pointers are to the device's memory and multiples of 16 bytes unless said otherwise; tensors are dense,
// the last axis fastest. Everything that a launch reads or writes is the caller's. A function returns 0,
// an error number of CUDA's (positive), or kUnsupported; it queues its work in `stream` and returns
// at once. gaitedge/cuda.py mirrors these structs.
//
// Shapes: T frames, n parts, C channels of a part feature, S of the attention's middle (C/s in Tab. 2).
#pragma once

#include <cstdint>

#if defined(_WIN32)
#define GAITEDGE_API extern "C" __declspec(dllexport)
#else
#define GAITEDGE_API extern "C" __attribute__((visibility("default")))
#endif

namespace gaitedge {

constexpr int kUnsupported = -1;  // no kernel for such arguments: the caller checks before, or goes another way

constexpr int kTicketBytes = 1024;  // at the beginning of PartDistance.workspace

enum Type : int32_t { kFloat32 = 0, kFloat16 = 1, kInt8 = 2, kUint8 = 3 };

enum Layout : int32_t {
  kChannelsFirst = 0,  // [N, C, H, W]
  kChannelsLast = 1,   // [N, H, W, C]
  kChannels32 = 2,     // [N, C/32, H, W, 32]: TensorRT's CHW32
};

enum Pooling : int32_t { kMaximum = 0, kMean = 1 };

// HP (Eq. 2).
struct PartPool {
  const void* x;  // [count, channels, height, width] in `layout`
  void* y;        // [count, parts, channels]
  int32_t type;   // of both: kFloat32 or kFloat16
  int32_t layout;  // kChannelsFirst or kChannelsLast
  int32_t count, channels, height, width, parts;
};

// FConv (Sec. 3.2), LeakyReLU, and where `pool` a 2×2 max-pool of stride 2.
struct FocalConv {
  const void* x;       // [count, in, height, width] in `layout`; silhouettes are [count, height, width]
  const void* weight;  // [out, kernel, kernel, in]
  const float* bias;   // [out], or null
  const float* scale;  // [out], kInt8 alone: what one step of the sum is worth, input scale × weight scale
  void* y;             // [count, out, height, width], halved (rounded down) where `pool`; in `layout`
  float slope;         // of the LeakyReLU
  float inverse_scale;  // kInt8 alone: 1 / scale of y
  int32_t type;         // of weight and y: kFloat32, kFloat16 or kInt8
  int32_t x_type;       // the same; or kUint8 for silhouettes (`in` 1), which are divided by 255 in FP32 after
                        // the sum, or, with kInt8, are multiplied as they are: `scale` has the 1/255
  int32_t layout;       // kChannels32 for kInt8 alone
  int32_t count, in, out, height, width;
  int32_t kernel;  // odd, 1 to 7
  int32_t strips;  // p, 1 to height
  int32_t pool;    // 0 or 1
};

// All FConvs and HP of the paper's network for CASIA-B (Tab. 1) in one launch.
struct FrameNetwork {
  const void* silhouettes;  // [frames, 64, 44], 0 to 255
  const void* weights;      // packed: see frame_network.h
  void* features;           // [frames, 16, 128], FP16 (also where the arithmetic is INT8)
  int32_t pixels;           // type of the silhouettes: kUint8 or kFloat16
  int32_t type;             // of the arithmetic: kFloat16 or kInt8
  int32_t frames;
  float slope;
};

// The weights of the temporal head (Tab. 2); index 0 is MTB1 (window 3), 1 is MTB2 (window 5).
struct MicroMotionWeights {
  const void* squeeze[2];  // [parts, S, 3, C]; null where the template or the attention is not used
  const void* excite[2];   // [parts, C, 1, S] and [parts, C, 3, S]
  const void* fc;          // [parts, C, dim]; null: the launch ends with TP
  int32_t type;            // of the weights and the features: kFloat32 or kFloat16
  int32_t parts, channels, squeezed, dim;
  int32_t templates;  // bit 0: MTB1; bit 1: MTB2
  int32_t attention;  // 0 or 1
  int32_t pooling;    // TP: kMaximum (Eq. 11) or kMean (Eq. 9)
  float slope;
};

// MTBs, TP and FC (Eq. 4 to 12) of whole sequences.
struct MicroMotion {
  MicroMotionWeights weights;
  const void* features;    // [frames of all sequences, parts, C]
  const int32_t* offsets;  // [batch + 1]: sequence b is the frames offsets[b] to offsets[b + 1], one or more;
                           // null: all have `frames`
  void* y;                 // [batch, parts, dim], kFloat32; without fc [batch, parts, C]
  int32_t y_type;          // without fc: kFloat32 or kFloat16
  int32_t batch, frames;   // frames: of each sequence, without offsets
};

// The same, one frame a call: after each, y is what MicroMotion gives for all frames so far.
struct MicroMotionStream {
  MicroMotionWeights weights;
  const void* features;       // [streams, parts, C]: the new frame
  const void* history;        // [streams, parts, 4, C]: the last four frames, the latest last
  const float* pooled;        // [streams, parts, C]: the maximum, or the sum, of what is settled
  const int32_t* seen;        // [streams, parts]: frames so far; 0 begins a walk, whatever the rest holds
  void* history_after;        // each may be its input
  float* pooled_after;
  int32_t* seen_after;
  void* y;  // as in MicroMotion
  int32_t y_type;
  int32_t streams;
};

// The mean over parts of the Euclidean distance (Sec. 3.4), and the nearest of the gallery.
struct PartDistance {
  const float* probes;  // [probes, parts, dim]
  const void* gallery;  // [entries, parts, dim] of `type`
  float* distance;      // [probes, k], nearest first; of equal ones the earlier entry first; NaN last
  int32_t* index;       // [probes, k]; -1 and +Inf beyond the gallery's end
  void* workspace;      // gaitedge_part_distance_workspace bytes, for one launch at a time. The caller writes
                        // zeros to the first kTicketBytes of them once; every launch leaves zeros there
  int32_t type;         // kFloat32 or kFloat16
  int32_t probe_count, entries, parts, dim;
  int32_t k;  // 1 to 64
};

}  // namespace gaitedge

GAITEDGE_API int gaitedge_part_pool(const gaitedge::PartPool* arguments, void* stream);
GAITEDGE_API int gaitedge_focal_conv(const gaitedge::FocalConv* arguments, void* stream);
GAITEDGE_API int gaitedge_frame_network(const gaitedge::FrameNetwork* arguments, void* stream);
GAITEDGE_API int gaitedge_micro_motion(const gaitedge::MicroMotion* arguments, void* stream);
GAITEDGE_API int gaitedge_micro_motion_stream(const gaitedge::MicroMotionStream* arguments, void* stream);
GAITEDGE_API int gaitedge_part_distance(const gaitedge::PartDistance* arguments, void* stream);
GAITEDGE_API int64_t gaitedge_part_distance_workspace(const gaitedge::PartDistance* arguments);

// What the library was built from: the SHA-256 of its sources, in hexadecimal.
GAITEDGE_API const char* gaitedge_sources();
// The same and what it was built for, on one line that a reader also finds in the file without loading it:
// "gaitedge-build sources=… targets=sm_75,sm_90,compute_90,nvcc_13.0".
GAITEDGE_API const char* gaitedge_build();
// In words, what a number that a function returned means.
GAITEDGE_API const char* gaitedge_error(int status);
