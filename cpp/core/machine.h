// The native machine: holds packed weights, KV pages and a flat list of instructions, and runs
// ragged batches through the list. Every thread walks the list; a barrier ends each instruction.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/memory.h"
#include "core/pool.h"
#include "core/results.h"

namespace overclock {

// What has been counted since it was last asked for. Times are in seconds of thread 0, whose pieces
// (prepare, turn, every instruction, finish) add up to `whole`.
struct Account {
  int64_t runs = 0;
  double whole = 0;             // from the call of run() to its return
  double prepare = 0;           // checks, memory, grouping
  double turn = 0;              // waking the threads, and the angles of all positions
  double finish = 0;            // from the last instruction until all threads are back
  std::vector<double> seconds;  // of each instruction
  std::vector<double> busy;     // [threads][instructions] in kernels; empty unless watched
};

// Copies f32 activation `buffer` out when `instruction` has run.
struct Tap {
  int instruction;
  int buffer;
};

// A tensor as its file stores it.
struct Source {
  Format format;
  int rows;
  int columns;
  const uint8_t* data;
  size_t bytes;
  bool mapped;  // may be released once it is packed
};

class Machine {
 public:
  // `tier` names the instruction set to use, or is empty for the best that this processor has.
  Machine(int threads, KvFormat kv, const std::string& tier);

  // Most tokens of a sequence; without it, as many as can be counted.
  void set_context(int tokens) { context_ = tokens; }
  // The program is built up once, in this order; each call returns an index for later ones.
  // All throw std::invalid_argument for what cannot be.
  int add_weight(const Source& source, Format format);
  // A float table for lookups alone; its memory must outlive the machine.
  int add_table(const Source& source);
  int add_vector(std::vector<float> values);
  int add_cache(int heads, int head_dim, int pages);
  int add_slot();
  int add_buffer(const Buffer& buffer);
  void add_instruction(Instruction instruction, const std::vector<float>& frequencies);
  // What a run has to do for output `buffer`: indices of instructions, in order.
  int add_output(int buffer, std::vector<int> instructions);

  // Runs the batch and writes output `output` to `result`, f32[rows, columns]. Calls from several
  // threads wait for each other. Each tap gets its buffer's rows, f32[rows, columns], in `tapped`.
  void run(const Batch& batch, int output, float* result) { run(batch, output, result, {}, {}); }
  void run(const Batch& batch, int output, float* result, const std::vector<Tap>& taps,
           const std::vector<float*>& tapped);
  // Throws std::invalid_argument for a tap that cannot be.
  int tap_rows(const Batch& batch, const Tap& tap) const;
  int tap_columns(const Tap& tap) const;
  // Calls job(0) … job(count - 1) on the machine's threads, while it runs nothing else. Which
  // thread has which is by chance. Jobs must not throw.
  void share(int count, const std::function<void(int)>& job);

  // Memory for the result of a run, f32[rows, columns]. Not to be called by two threads at once.
  std::shared_ptr<Memory> take_result(size_t bytes) { return results_.take(bytes); }

  // Takes adapters 1, 2 … in the place of those that there were. Throws std::invalid_argument for a
  // change that fits no instruction; waits for a run to end.
  void set_adapters(const std::vector<std::vector<Change>>& adapters);

  // KV pages as they lie in memory: all layers of a page, one after another. All throw
  // std::invalid_argument for a page that there is not, and wait for a run to end.
  size_t page_bytes() const { return caches_.empty() ? 0 : caches_.front().page_stride; }
  // From sources[i] to targets[i], in order.
  void copy_pages(const int32_t* sources, const int32_t* targets, size_t count);
  void read_pages(const int32_t* pages, size_t count, uint8_t* to);
  void write_pages(const int32_t* pages, size_t count, const uint8_t* from);

  int threads() const { return pool_.threads(); }
  const char* tier() const { return kernels_.name; }
  int output_rows(const Batch& batch, int output) const;
  int output_columns(int output) const;
  const std::vector<Weight>& weights() const { return weights_; }
  size_t weight_bytes() const { return weight_bytes_; }

  // Whether each thread's time in kernels is counted too: one more look at the timer a step.
  void watch(bool threads);
  // What was counted since the last call; all begins at zero again.
  Account take_account();

 private:
  struct Output {
    int buffer;
    std::vector<int> instructions;
  };

  const Output& output_at(int output) const;
  Holdings holdings() const;
  void make_room(const Batch& batch, const Output& output, float* result);
  void turn_rotations(const Batch& batch, const Lane& lane);
  Lane lane_of(int thread, int& steps);
  void work(const Frame& frame, const Output& output, int thread, const std::vector<Tap>& taps,
            const std::vector<float*>& tapped);
  void copy_taps(const Frame& frame, int instruction, const std::vector<Tap>& taps,
                 const std::vector<float*>& tapped) const;
  // Where a thread that has to wait reads ahead: its first share of the next product's weights.
  struct Ahead {
    int instruction = -1;
    const uint8_t* at = nullptr;
    const uint8_t* stop = nullptr;
  };
  void look_ahead(const Output& output, size_t position, const Lane& lane, Ahead& ahead) const;
  void group_adapted(const Batch& batch);
  Frame frame_for(const Batch& batch);
  uint8_t* take_weight_memory(size_t bytes);
  void place_caches();
  uint8_t* page(int32_t number) const;

  std::mutex running_;
  Pool pool_;
  const KvFormat kv_;
  const Kernels& kernels_;
  std::vector<Memory> weight_memory_;
  size_t weight_used_ = 0;  // of the last piece of weight memory
  size_t weight_bytes_ = 0;
  std::vector<Weight> weights_;
  std::vector<std::vector<float>> vectors_;
  Memory cache_memory_;
  Results results_;
  std::vector<Cache> caches_;
  std::vector<Memory> slots_;
  std::vector<Buffer> buffers_;
  std::vector<uint8_t*> addresses_;
  std::vector<Rotation> rotations_;
  std::vector<Instruction> instructions_;
  std::vector<Output> outputs_;
  std::vector<Memory> scratch_;
  std::vector<float> partials_;
  Adapters adapters_;
  AdaptedRows adapted_tokens_;
  AdaptedRows adapted_selected_;
  // Two sets for the lanes: steps use them in turn, and each lane clears its own of the other set.
  std::vector<Cursor> cursors_;
  // Counters, in ticks; thread 0 writes all but `busy_`, in which each thread has a row of its own.
  struct Ticks {
    uint64_t whole = 0, prepare = 0, turn = 0, finish = 0;
  };
  Ticks spent_;
  uint64_t last_tick_ = 0;  // when thread 0 was done with its last step
  std::vector<uint64_t> ticks_;
  // While threads are watched: for each, the sum of the moments when it was done with an
  // instruction; and the sum of those when all began it. The differences are the threads' times,
  // with one look at the timer a step; sums may wrap around.
  std::vector<std::vector<uint64_t>> busy_;
  std::vector<uint64_t> starts_;
  bool watched_ = false;
  int64_t runs_ = 0;
  int context_ = INT32_MAX;
};

}  // namespace overclock
