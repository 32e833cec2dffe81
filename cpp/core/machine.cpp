#include "core/machine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "core/clock.h"
#include "core/pack.h"
#include "core/tiers.h"

namespace overclock {
namespace {

constexpr size_t kWeightPiece = 64u << 20;
constexpr size_t kLaneScratch = 4u << 20;
constexpr int kMostThreads = 1024;
constexpr int kMemoryBoundRows = 4;        // up to here a product waits for its weights
constexpr size_t kMostAhead = 128u << 10;  // read ahead no more than the second-level cache keeps

int checked_threads(int threads) {
  require(threads >= 1 && threads <= kMostThreads, "threads must be 1 to 1024");
  return threads;
}

bool is_float(Format format) { return !layout_of(format).quantized(); }

}  // namespace

Machine::Machine(int threads, KvFormat kv, const std::string& tier)
    : pool_(checked_threads(threads)),
      kv_(kv),
      kernels_(kernels_of(tier)),
      cursors_(2 * size_t(threads)) {
  for (int thread = 0; thread < threads; ++thread) scratch_.emplace_back(kLaneScratch, false);
}

uint8_t* Machine::take_weight_memory(size_t bytes) {
  bytes = round_up(bytes, 64);
  if (weight_memory_.empty() || weight_used_ + bytes > weight_memory_.back().bytes()) {
    weight_memory_.emplace_back(std::max(bytes, kWatched ? 0 : kWeightPiece), true);
    weight_used_ = 0;
  }
  uint8_t* address = weight_memory_.back().data() + weight_used_;
  weight_used_ += bytes;
  weight_bytes_ += bytes;
  return address;
}

namespace {

void check_sides(const Source& source) {
  require(source.rows > 0 && source.columns > 0, "a weight has no rows or no columns");
  require(source.rows <= kMostMatrixSide && source.columns <= kMostMatrixSide,
          "a weight has more than 2^28 rows or columns");
  require(source.format != Format::I8, "no file holds weights in I8");
}

}  // namespace

int Machine::add_weight(const Source& source, Format format) {
  check_sides(source);
  require(fills_blocks(source.format, source.columns), "a row of a weight ends inside a block");
  require(source.format == format || (format == Format::I8 && is_float(source.format)),
          "a weight can be held in its own format, or a float one in I8");
  const size_t row_bytes = file_row_bytes(source.format, source.columns);
  require(source.bytes == row_bytes * size_t(source.rows), "a weight has the wrong size");
  Weight weight{format, source.rows, source.columns};
  uint8_t* to = take_weight_memory(weight.panel_bytes() * size_t(weight.panels()));
  weight.data = to;
  std::vector<Cursor> cursors(size_t(pool_.threads()));
  pool_.run([&](int thread) {
    const Lane lane{thread, pool_.threads(), cursors.data(), nullptr};
    for (int begin, end; lane.claim(weight.panels(), lane.piece(weight.panels()), begin, end);)
      for (int panel = begin; panel < end; ++panel)
        pack_panel(weight, source.format, source.data, panel,
                   to + size_t(panel) * weight.panel_bytes());
  });
  if (source.mapped) release_mapped(source.data, source.bytes);
  weights_.push_back(weight);
  return static_cast<int>(weights_.size()) - 1;
}

int Machine::add_table(const Source& source) {
  check_sides(source);
  require(is_float(source.format), "a table for lookups alone holds floats");
  require(source.bytes == file_row_bytes(source.format, source.columns) * size_t(source.rows),
          "a table has the wrong size");
  weights_.push_back({source.format, source.rows, source.columns, source.data, true});
  return static_cast<int>(weights_.size()) - 1;
}

int Machine::add_vector(std::vector<float> values) {
  vectors_.push_back(std::move(values));
  return static_cast<int>(vectors_.size()) - 1;
}

int Machine::add_cache(int heads, int head_dim, int pages) {
  require(heads > 0 && heads <= kMostHeads && head_dim > 0 && head_dim <= kMostHead && pages >= 0,
          "KV pages need 1 to 1024 heads of 1 to 512 columns");
  require(cache_memory_.data() == nullptr, "caches come before outputs");
  require(caches_.empty() || caches_.front().pages == pages, "all caches have as many pages");
  caches_.push_back({kv_, heads, head_dim, pages});
  return static_cast<int>(caches_.size()) - 1;
}

// One piece of memory holds page 0 of every layer, then page 1 of every layer …: a short context
// touches little of it, so that huge pages cost nothing and spare a table walk for every KV page.
void Machine::place_caches() {
  size_t stride = 0;
  for (const Cache& cache : caches_) stride += cache.bytes();
  if (stride == 0 || cache_memory_.data() != nullptr) return;
  cache_memory_ = Memory(stride * size_t(caches_.front().pages), true);
  uint8_t* at = cache_memory_.data();
  for (Cache& cache : caches_) {
    cache.data = at;
    cache.page_stride = stride;
    at += cache.bytes();
  }
}

uint8_t* Machine::page(int32_t number) const {
  require(cache_memory_.data() != nullptr && number >= 0 && number < caches_.front().pages,
          "the machine has no such KV page");
  return cache_memory_.data() + size_t(number) * page_bytes();
}

void Machine::copy_pages(const int32_t* sources, const int32_t* targets, size_t count) {
  const std::lock_guard alone(running_);
  for (size_t i = 0; i < count; ++i) std::memmove(page(targets[i]), page(sources[i]), page_bytes());
}

void Machine::read_pages(const int32_t* pages, size_t count, uint8_t* to) {
  const std::lock_guard alone(running_);
  for (size_t i = 0; i < count; ++i, to += page_bytes())
    std::memcpy(to, page(pages[i]), page_bytes());
}

void Machine::write_pages(const int32_t* pages, size_t count, const uint8_t* from) {
  const std::lock_guard alone(running_);
  for (size_t i = 0; i < count; ++i, from += page_bytes())
    std::memcpy(page(pages[i]), from, page_bytes());
}

void Machine::set_adapters(const std::vector<std::vector<Change>>& adapters) {
  for (const auto& changes : adapters)
    for (const Change& change : changes) {
      bool known = false;
      for (const Instruction& each : instructions_) {
        if (each.op != Op::Adapt || each.site != change.site) continue;
        require(each.one(Role::X).columns == change.in && each.one(Role::Y).columns == change.out,
                "a matrix of an adapter has another shape than its site");
        known = true;
      }
      require(known, "an adapter changes what the program has no instruction for");
    }
  Adapters fresh(adapters);
  const std::lock_guard alone(running_);
  adapters_ = std::move(fresh);
}

int Machine::add_slot() {
  slots_.emplace_back();
  return static_cast<int>(slots_.size()) - 1;
}

int Machine::add_buffer(const Buffer& buffer) {
  check_buffer(holdings(), buffer);
  buffers_.push_back(buffer);
  addresses_.push_back(nullptr);
  return static_cast<int>(buffers_.size()) - 1;
}

void Machine::add_instruction(Instruction instruction, const std::vector<float>& frequencies) {
  check_instruction(holdings(), instruction, frequencies.size());
  if (!frequencies.empty()) {
    const auto same = [&](const Rotation& r) { return r.frequencies == frequencies; };
    const auto found = std::find_if(rotations_.begin(), rotations_.end(), same);
    instruction.table = static_cast<int>(found - rotations_.begin());
    if (found == rotations_.end()) rotations_.push_back({frequencies, {}});
  }
  instructions_.push_back(std::move(instruction));
  ticks_.push_back(0);
  for (auto& row : busy_) row.push_back(0);
  starts_.push_back(0);
}

int Machine::add_output(int buffer, std::vector<int> instructions) {
  place_caches();
  require(buffer >= 0 && size_t(buffer) < buffers_.size() &&
              buffers_[size_t(buffer)].kind == Kind::Activation &&
              buffers_[size_t(buffer)].element == Element::F32,
          "an output must be an f32 activation");
  for (int index : instructions)
    require(index >= 0 && size_t(index) < instructions_.size(), "an output needs no instruction");
  outputs_.push_back({buffer, std::move(instructions)});
  return static_cast<int>(outputs_.size()) - 1;
}

const Machine::Output& Machine::output_at(int output) const {
  require(output >= 0 && size_t(output) < outputs_.size(), "the program has no such output");
  return outputs_[size_t(output)];
}

int Machine::output_columns(int output) const {
  return buffers_[size_t(output_at(output).buffer)].columns;
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
  return row_count(batch, buffers_[size_t(output_at(output).buffer)].rows);
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
  for (Memory& memory : scratch_)
    if (memory.bytes() < scratch) memory = Memory(scratch, false);
  std::vector<size_t> needed(slots_.size(), 0);
  const auto bytes_of = [&](const Buffer& buffer) {
    const size_t terms = size_t(terms_of(buffer.element));
    const size_t row = terms > 0 ? terms * QuantizedRow::row_bytes(buffer.columns)
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

Holdings Machine::holdings() const {
  return {buffers_, weights_, vectors_, caches_, slots_.size(), context_, adapters_.count()};
}

Frame Machine::frame_for(const Batch& batch) {
  return {batch,      buffers_,         addresses_, weights_,        vectors_,         caches_,
          rotations_, partials_.data(), adapters_,  adapted_tokens_, adapted_selected_};
}

namespace {

// Rows with the same adapter beside each other, in tiles; adapter_of(row) is 0 for none.
template <class AdapterOf>
void group_rows(AdaptedRows& to, int rows, AdapterOf adapter_of) {
  to.rows.clear();
  to.tiles.clear();
  for (int row = 0; row < rows; ++row)
    if (adapter_of(row) != 0) to.rows.push_back(row);
  std::stable_sort(to.rows.begin(), to.rows.end(),
                   [&](int a, int b) { return adapter_of(a) < adapter_of(b); });
  for (size_t i = 0; i < to.rows.size(); ++i) {
    const int adapter = adapter_of(to.rows[i]);
    const bool fits = !to.tiles.empty() && to.tiles.back().adapter == adapter &&
                      to.tiles.back().count < AdaptedRows::kTile;
    if (fits)
      ++to.tiles.back().count;
    else
      to.tiles.push_back({adapter, static_cast<int>(i), 1});
  }
}

// Whether an adapter of the batch changes rows at the site of an Adapt.
bool is_adapted(const Frame& frame, const Instruction& instruction) {
  const auto& tiles = frame.adapted(instruction.one(Role::Y)).tiles;
  return std::any_of(tiles.begin(), tiles.end(),
                     [&](const auto& tile) { return frame.change(tile, instruction) != nullptr; });
}

bool in_place(const Instruction& instruction) {
  const Operand &a = instruction.one(Role::A), &y = instruction.one(Role::Y);
  return a.buffer == y.buffer && a.start == y.start;
}

}  // namespace

void Machine::group_adapted(const Batch& batch) {
  const auto of_token = [&](int token) {
    return batch.adapters ? batch.adapters[batch.sequence_of[size_t(token)]] : 0;
  };
  group_rows(adapted_tokens_, batch.tokens, of_token);
  group_rows(adapted_selected_, batch.selected,
             [&](int row) { return of_token(batch.output_rows[row]); });
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

void Machine::look_ahead(const Output& output, size_t position, const Lane& lane,
                         Ahead& ahead) const {
  while (++position < output.instructions.size()) {
    const int index = output.instructions[position];
    const Instruction& next = instructions_[size_t(index)];
    if (next.op != Op::Matmul && next.op != Op::GatedMatmul) continue;
    if (ahead.instruction == index) return;
    ahead.instruction = index;
    const std::vector<Operand>& side_by_side =
        next.all(next.op == Op::Matmul ? Role::W : Role::Gate);
    const auto weight_of = [&](const Operand& operand) -> const Weight& {
      return weights_[size_t(buffers_[size_t(operand.buffer)].index)];
    };
    int panels = 0;
    for (const Operand& operand : side_by_side) panels += weight_of(operand).panels();
    int first = lane.share_at(panels, lane.index);
    size_t which = 0;
    for (; first >= weight_of(side_by_side[which]).panels(); ++which)
      first -= weight_of(side_by_side[which]).panels();
    const Weight& weight = weight_of(side_by_side[which]);
    ahead.at = weight.panel(first);
    ahead.stop = std::min(ahead.at + kMostAhead, weight.panel(weight.panels()));
    return;
  }
}

// The lane of a thread for its next step. All threads have left the step before, whose cursors
// will serve the step after this one.
Lane Machine::lane_of(int thread, int& steps) {
  const size_t threads = size_t(pool_.threads());
  Cursor* sets[2] = {cursors_.data(), cursors_.data() + threads};
  const int set = steps++ % 2;
  sets[1 - set][thread].claimed.store(0, std::memory_order_relaxed);
  return {thread, pool_.threads(), sets[set], scratch_[size_t(thread)].data()};
}

void Machine::copy_taps(const Frame& frame, int instruction, const std::vector<Tap>& taps,
                        const std::vector<float*>& tapped) const {
  for (size_t i = 0; i < taps.size(); ++i) {
    if (taps[i].instruction != instruction) continue;
    const Operand whole{taps[i].buffer, 0, tap_columns(taps[i])};
    const FloatRows from = frame.floats(whole);
    const size_t columns = size_t(whole.columns);
    for (int row = 0; row < frame.rows(whole); ++row)
      std::memcpy(tapped[i] + size_t(row) * columns, from.row(row), 4 * columns);
  }
}

void Machine::work(const Frame& frame, const Output& output, int thread,
                   const std::vector<Tap>& taps, const std::vector<float*>& tapped) {
  int steps = 0;
  uint64_t before = last_tick_;
  if (!rotations_.empty()) {
    turn_rotations(frame.batch, lane_of(thread, steps));
    pool_.barrier().wait();
  }
  if (thread == 0) {
    const uint64_t now = ticks_now();
    spent_.turn += now - before;
    before = now;
  }
  uint64_t* const busy = watched_ ? busy_[size_t(thread)].data() : nullptr;
  Ahead ahead;
  for (size_t position = 0; position < output.instructions.size(); ++position) {
    const int index = output.instructions[position];
    const Instruction& instruction = instructions_[size_t(index)];
    const bool adapts = instruction.op == Op::Adapt && is_adapted(frame, instruction);
    if (instruction.op == Op::Adapt && !adapts && in_place(instruction)) continue;
    const Lane lane = lane_of(thread, steps);
    if (frame.batch.tokens <= kMemoryBoundRows) look_ahead(output, position, lane, ahead);
    kernels_.run[static_cast<size_t>(instruction.op)](frame, instruction, lane);
    const bool splits = instruction.op == Op::Attend &&
                        kernels_.splits_attention(frame, instruction, pool_.threads());
    if (busy && !splits && !adapts) busy[index] += ticks_now();
    pool_.barrier().wait([&] {
      for (int line = 0; line < 4 && ahead.at < ahead.stop; ++line, ahead.at += 64)
        __builtin_prefetch(ahead.at, 0, 2);
    });
    if (splits || adapts) {
      const auto second = adapts ? kernels_.adapt_up : kernels_.merge_attention;
      second(frame, instruction, lane_of(thread, steps));
      if (busy) busy[index] += ticks_now();
      pool_.barrier().wait();
    }
    if (!taps.empty()) {
      if (thread == 0) copy_taps(frame, index, taps, tapped);
      pool_.barrier().wait();
    }
    if (thread != 0) continue;
    if (busy) starts_[size_t(index)] += before;
    const uint64_t now = ticks_now();
    ticks_[size_t(index)] += now - before;
    before = now;
  }
  if (thread == 0) last_tick_ = before;
}

int Machine::tap_rows(const Batch& batch, const Tap& tap) const {
  tap_columns(tap);
  return row_count(batch, buffers_[size_t(tap.buffer)].rows);
}

int Machine::tap_columns(const Tap& tap) const {
  require(tap.buffer >= 0 && size_t(tap.buffer) < buffers_.size() &&
              buffers_[size_t(tap.buffer)].kind == Kind::Activation &&
              buffers_[size_t(tap.buffer)].element == Element::F32,
          "only an f32 activation can be tapped");
  require(tap.instruction >= 0 && size_t(tap.instruction) < instructions_.size(),
          "a tap needs an instruction of the program");
  return buffers_[size_t(tap.buffer)].columns;
}

void Machine::run(const Batch& batch, int index, float* result, const std::vector<Tap>& taps,
                  const std::vector<float*>& tapped) {
  const std::lock_guard alone(running_);
  const uint64_t called = ticks_now();
  const Output& output = output_at(index);
  check_batch(holdings(), instructions_, batch);
  make_room(batch, output, result);
  for (Rotation& rotation : rotations_) {
    const size_t size = size_t(batch.tokens) * 2 * size_t(rotation.pairs());
    if (rotation.values.size() < size) rotation.values.resize(size);
  }
  group_adapted(batch);
  for (Cursor& cursor : cursors_) cursor.claimed.store(0, std::memory_order_relaxed);
  const Frame sizes = frame_for(batch);
  size_t partials = adapted_tokens_.rows.size();
  partials = std::max(partials, adapted_selected_.rows.size()) * size_t(adapters_.stride());
  for (int at : output.instructions) {
    const Instruction& instruction = instructions_[size_t(at)];
    if (instruction.op == Op::Attend &&
        kernels_.splits_attention(sizes, instruction, pool_.threads()))
      partials = std::max(partials, kernels_.partial_floats(sizes, instruction));
  }
  if (partials_.size() < partials) partials_.resize(partials);
  const Frame frame = frame_for(batch);
  last_tick_ = ticks_now();
  spent_.prepare += last_tick_ - called;
  pool_.run([&](int thread) { work(frame, output, thread, taps, tapped); });
  const uint64_t done = ticks_now();
  spent_.finish += done - last_tick_;
  spent_.whole += done - called;
  ++runs_;
}

void Machine::share(int count, const std::function<void(int)>& job) {
  const std::lock_guard alone(running_);
  std::vector<Cursor> cursors(size_t(pool_.threads()));
  pool_.run([&](int thread) {
    const Lane lane{thread, pool_.threads(), cursors.data(), nullptr};
    for (int begin, end; lane.claim(count, 1, begin, end);) job(begin);
  });
}

void Machine::watch(bool threads) {
  const std::lock_guard alone(running_);
  watched_ = threads;
  busy_.assign(threads ? size_t(pool_.threads()) : 0, std::vector<uint64_t>(ticks_.size(), 0));
  starts_.assign(ticks_.size(), 0);
}

Account Machine::take_account() {
  const std::lock_guard alone(running_);
  const double tick = seconds_per_tick();
  const auto seconds = [tick](uint64_t ticks) { return static_cast<double>(ticks) * tick; };
  Account account{runs_, seconds(spent_.whole), seconds(spent_.prepare), seconds(spent_.turn),
                  seconds(spent_.finish)};
  const auto take = [&](std::vector<uint64_t>& from, std::vector<double>& to) {
    for (uint64_t& ticks : from) to.push_back(seconds(ticks));
    std::fill(from.begin(), from.end(), 0);
  };
  account.seconds.reserve(ticks_.size());
  take(ticks_, account.seconds);
  account.busy.reserve(busy_.size() * ticks_.size());
  for (auto& row : busy_) {
    // A thread without work may be done before thread 0 has noted when the step began.
    for (size_t i = 0; i < row.size(); ++i)
      row[i] = static_cast<uint64_t>(std::max<int64_t>(0, int64_t(row[i] - starts_[i])));
    take(row, account.busy);
  }
  std::fill(starts_.begin(), starts_.end(), 0);
  spent_ = {};
  runs_ = 0;
  return account;
}

}  // namespace overclock
