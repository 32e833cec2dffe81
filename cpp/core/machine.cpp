#include "core/machine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "core/clock.h"
#include "core/pack.h"
#include "core/tiers.h"

namespace overclock {
namespace {

constexpr size_t kWeightPiece = 64u << 20;
constexpr size_t kLaneScratch = 4u << 20;
constexpr int kMostHead = 512;

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument(why); }

void require(bool holds, const char* why) {
  if (!holds) refuse(why);
}

bool is_float(Format format) { return !layout_of(format).quantized(); }

}  // namespace

Machine::Machine(int threads, KvFormat kv, const std::string& tier)
    : pool_(threads), kv_(kv), kernels_(kernels_of(tier)) {
  for (int thread = 0; thread < threads; ++thread) scratch_.emplace_back(kLaneScratch, false);
}

uint8_t* Machine::take_weight_memory(size_t bytes) {
  bytes = round_up(bytes, 64);
  if (weight_memory_.empty() || weight_used_ + bytes > weight_memory_.back().bytes()) {
    weight_memory_.emplace_back(std::max(bytes, kWeightPiece), true);
    weight_used_ = 0;
  }
  uint8_t* address = weight_memory_.back().data() + weight_used_;
  weight_used_ += bytes;
  weight_bytes_ += bytes;
  return address;
}

int Machine::add_weight(const Source& source, Format format) {
  require(source.rows > 0 && source.columns > 0, "a weight has no rows or no columns");
  require(fills_blocks(source.format, source.columns), "a row of a weight ends inside a block");
  require(source.format == format || (format == Format::I8 && is_float(source.format)),
          "a weight can be held in its own format, or a float one in I8");
  const size_t row_bytes = file_row_bytes(source.format, source.columns);
  require(source.bytes == row_bytes * size_t(source.rows), "a weight has the wrong size");
  Weight weight{format, source.rows, source.columns, nullptr};
  uint8_t* to = take_weight_memory(weight.panel_bytes() * size_t(weight.panels()));
  weight.data = to;
  std::atomic<int> next{0};
  pool_.run([&](int thread) {
    const Lane lane{thread, pool_.threads(), &next, nullptr};
    for (int begin, end; lane.claim(weight.panels(), lane.piece(weight.panels()), begin, end);)
      for (int panel = begin; panel < end; ++panel)
        pack_panel(weight, source.format, source.data, panel,
                   to + size_t(panel) * weight.panel_bytes());
  });
  if (source.mapped) release_mapped(source.data, source.bytes);
  weights_.push_back(weight);
  return static_cast<int>(weights_.size()) - 1;
}

int Machine::add_vector(std::vector<float> values) {
  vectors_.push_back(std::move(values));
  return static_cast<int>(vectors_.size()) - 1;
}

int Machine::add_cache(int heads, int head_dim, int pages) {
  require(heads > 0 && head_dim > 0 && head_dim <= kMostHead && pages >= 0,
          "KV pages need 1 to 512 columns a head");
  Cache cache{kv_, heads, head_dim, pages, nullptr};
  cache_memory_.emplace_back(cache.bytes(), false);
  cache.data = cache_memory_.back().data();
  caches_.push_back(cache);
  return static_cast<int>(caches_.size()) - 1;
}

int Machine::add_slot() {
  slots_.emplace_back();
  return static_cast<int>(slots_.size()) - 1;
}

int Machine::add_buffer(const Buffer& buffer) {
  const size_t limits[] = {3, weights_.size(), vectors_.size(), slots_.size(), caches_.size()};
  require(buffer.index >= 0 && size_t(buffer.index) < limits[static_cast<size_t>(buffer.kind)],
          "a buffer stands for memory that is not there");
  require(buffer.columns > 0, "a buffer has no columns");
  require(buffer.kind != Kind::Activation || buffer.rows != Rows::None, "an activation has no rows");
  buffers_.push_back(buffer);
  addresses_.push_back(nullptr);
  return static_cast<int>(buffers_.size()) - 1;
}

// Bounds that keep memory safe; what an instruction means is the verifier's business.
void Machine::check_operands(const Instruction& instruction) const {
  for (size_t role = 0; role < instruction.operands.size(); ++role)
    for (const Operand& operand : instruction.operands[role]) {
      require(operand.buffer >= 0 && size_t(operand.buffer) < buffers_.size(),
              "an operand names no buffer");
      const Buffer& buffer = buffers_[size_t(operand.buffer)];
      require(operand.start >= 0 && operand.columns > 0 &&
                  operand.columns <= buffer.columns - operand.start,
              "an operand reaches past its buffer");
      require(buffer.element == Element::F32 || operand.start == 0,
              "an int8 operand must be a whole buffer");
    }
}

void Machine::add_instruction(Instruction instruction, const std::vector<float>& frequencies) {
  check_operands(instruction);
  require(instruction.heads > 0 && instruction.kv_heads > 0, "an instruction has no heads");
  if (!frequencies.empty()) {
    const auto same = [&](const Rotation& r) { return r.frequencies == frequencies; };
    const auto found = std::find_if(rotations_.begin(), rotations_.end(), same);
    instruction.table = static_cast<int>(found - rotations_.begin());
    if (found == rotations_.end()) rotations_.push_back({frequencies, {}});
  }
  instructions_.push_back(std::move(instruction));
  ticks_.push_back(0);
  counters_ = std::make_unique<std::atomic<int>[]>(2 * instructions_.size() + 1);
}

int Machine::add_output(int buffer, std::vector<int> instructions) {
  for (int index : instructions)
    require(index >= 0 && size_t(index) < instructions_.size(), "an output needs no instruction");
  outputs_.push_back({buffer, std::move(instructions)});
  return static_cast<int>(outputs_.size()) - 1;
}

int Machine::output_columns(int output) const {
  return buffers_[size_t(outputs_[size_t(output)].buffer)].columns;
}

namespace {

int row_count(const Batch& batch, Rows rows) {
  switch (rows) {
    case Rows::Tokens: return batch.tokens;
    case Rows::Selected: return batch.selected;
    case Rows::Sequences: return batch.sequences;
    case Rows::None: break;
  }
  return 1;
}

int longest(const Batch& batch) {
  int most = 0;
  for (int s = 0; s < batch.sequences; ++s) most = std::max(most, batch.length(s));
  return most;
}

}  // namespace

int Machine::output_rows(const Batch& batch, int output) const {
  return row_count(batch, buffers_[size_t(outputs_[size_t(output)].buffer)].rows);
}

void Machine::make_room(const Batch& batch, const Output& output, float* result) {
  size_t scratch = kLaneScratch;
  for (int index : output.instructions) {
    const Instruction& instruction = instructions_[size_t(index)];
    if (instruction.op != Op::AttendAll) continue;
    const Operand& q = instruction.one(Role::Q);
    const size_t head = round_up(size_t(q.columns / instruction.heads), kLanes);
    const size_t tokens = round_up(size_t(longest(batch)), kPageTokens);
    scratch = std::max(scratch, kLaneScratch + 2 * 4 * tokens * head);
  }
  if (scratch_.front().bytes() < scratch)
    for (Memory& memory : scratch_) memory = Memory(scratch, false);
  std::vector<size_t> needed(slots_.size(), 0);
  const auto bytes_of = [&](const Buffer& buffer) {
    const size_t row = buffer.element == Element::I8 ? QuantizedRow::row_bytes(buffer.columns)
                                                     : round_up(4 * size_t(buffer.columns), 64);
    return row * size_t(row_count(batch, buffer.rows)) + 64;
  };
  for (const Buffer& buffer : buffers_)
    if (buffer.kind == Kind::Activation)
      needed[size_t(buffer.index)] = std::max(needed[size_t(buffer.index)], bytes_of(buffer));
  for (size_t slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot].bytes() < needed[slot]) slots_[slot] = Memory(needed[slot], false);
  for (size_t index = 0; index < buffers_.size(); ++index)
    if (buffers_[index].kind == Kind::Activation)
      addresses_[index] = slots_[size_t(buffers_[index].index)].data();
  addresses_[size_t(output.buffer)] = reinterpret_cast<uint8_t*>(result);
}

Frame Machine::frame_for(const Batch& batch) {
  return {batch, buffers_, addresses_, weights_, vectors_, caches_, rotations_, partials_.data()};
}

void Machine::turn_rotations(const Batch& batch, const Lane& lane) {
  for (int begin, end; lane.claim(batch.tokens, lane.piece(batch.tokens), begin, end);)
    for (Rotation& rotation : rotations_)
      for (int token = begin; token < end; ++token) {
        const int pairs = rotation.pairs();
        float* values = rotation.values.data() + size_t(token) * 2 * size_t(pairs);
        const auto position = static_cast<float>(batch.positions[size_t(token)]);
        for (int i = 0; i < pairs; ++i) {
          const float angle = position * rotation.frequencies[size_t(i)];
          values[i] = std::cos(angle);
          values[pairs + i] = std::sin(angle);
        }
      }
}

void Machine::step(const Frame& frame, int index, const Lane& lane) {
  const Instruction& instruction = instructions_[size_t(index)];
  kernels_.run[static_cast<size_t>(instruction.op)](frame, instruction, lane);
  pool_.barrier().wait();
  if (instruction.op != Op::Attend ||
      !kernels_.splits_attention(frame, instruction, pool_.threads()))
    return;
  const Lane second{lane.index, lane.count, &counters_[instructions_.size() + size_t(index)],
                    lane.scratch};
  kernels_.merge_attention(frame, instruction, second);
  pool_.barrier().wait();
}

void Machine::work(const Frame& frame, const Output& output, int thread) {
  uint8_t* scratch = scratch_[size_t(thread)].data();
  if (!rotations_.empty()) {
    turn_rotations(frame.batch,
                   {thread, pool_.threads(), &counters_[2 * instructions_.size()], scratch});
    pool_.barrier().wait();
  }
  uint64_t before = ticks_now();
  for (int index : output.instructions) {
    step(frame, index, {thread, pool_.threads(), &counters_[size_t(index)], scratch});
    if (thread != 0) continue;
    const uint64_t now = ticks_now();
    ticks_[size_t(index)] += now - before;
    before = now;
  }
}

// The machine is the last gate before memory: a batch that would leave it is refused here even if
// every check above was left out.
void Machine::check_batch(const Batch& batch) const {
  for (int s = 0; s < batch.sequences; ++s) {
    require(batch.length(s) > 0 && batch.contexts[s] >= 0, "a sequence of the batch has no tokens");
    const int last = batch.contexts[s] + batch.length(s) - 1;
    for (const Cache& cache : caches_) {
      require(last / kPageTokens < batch.page_columns, "a sequence has too few KV pages");
      for (int page = 0; page <= last / kPageTokens; ++page)
        require(batch.pages_of(s)[page] >= 0 && batch.pages_of(s)[page] < cache.pages,
                "a KV page is out of range");
      break;  // all layers have the same number of pages
    }
  }
  for (int row = 0; row < batch.selected; ++row)
    require(batch.output_rows[row] >= 0 && batch.output_rows[row] < batch.tokens,
            "an output row is out of range");
  const auto check_ids = [&](const Instruction& instruction) {
    const Weight& table = weights_[size_t(buffers_[size_t(instruction.one(Role::Table).buffer)].index)];
    const int input = buffers_[size_t(instruction.one(Role::Ids).buffer)].index;
    const int32_t* ids = input == 0   ? batch.token_ids
                         : input == 1 ? batch.positions.data()
                                      : batch.token_types;
    for (int row = 0; ids && row < batch.tokens; ++row)
      require(ids[row] >= 0 && ids[row] < table.rows - instruction.offset,
              "a token id, position or type is outside its table");
  };
  for (const Instruction& instruction : instructions_)
    if (instruction.op == Op::Embed) check_ids(instruction);
}

void Machine::run(const Batch& batch, int index, float* result) {
  require(index >= 0 && size_t(index) < outputs_.size(), "the program has no such output");
  check_batch(batch);
  const Output& output = outputs_[size_t(index)];
  make_room(batch, output, result);
  for (Rotation& rotation : rotations_) {
    const size_t size = size_t(batch.tokens) * 2 * size_t(rotation.pairs());
    if (rotation.values.size() < size) rotation.values.resize(size);
  }
  for (size_t i = 0; i <= 2 * instructions_.size(); ++i)
    counters_[i].store(0, std::memory_order_relaxed);
  const Frame sizes = frame_for(batch);
  size_t partials = 0;
  for (int at : output.instructions) {
    const Instruction& instruction = instructions_[size_t(at)];
    if (instruction.op == Op::Attend &&
        kernels_.splits_attention(sizes, instruction, pool_.threads()))
      partials = std::max(partials, kernels_.partial_floats(sizes, instruction));
  }
  if (partials_.size() < partials) partials_.resize(partials);
  const Frame frame = frame_for(batch);
  pool_.run([&](int thread) { work(frame, output, thread); });
  ++runs_;
}

std::vector<double> Machine::take_seconds(int64_t& runs) {
  std::vector<double> seconds(ticks_.size());
  const double tick = seconds_per_tick();
  for (size_t i = 0; i < ticks_.size(); ++i) seconds[i] = static_cast<double>(ticks_[i]) * tick;
  std::fill(ticks_.begin(), ticks_.end(), 0);
  runs = runs_;
  runs_ = 0;
  return seconds;
}

}  // namespace overclock
