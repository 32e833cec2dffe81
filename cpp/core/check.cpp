#include "core/check.h"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>

namespace overclock {

void require(bool holds, const char* why) {
  if (!holds) throw std::invalid_argument(why);
}

namespace {

// Finds the operands of one instruction and compares them.
class Checker {
 public:
  Checker(const Holdings& holdings, const Instruction& instruction, size_t pairs)
      : holdings_(holdings), instruction_(instruction), pairs_(pairs) {}

  void check();

 private:
  const Buffer& buffer(const Operand& operand) const {
    return holdings_.buffers[size_t(operand.buffer)];
  }
  bool int8(const Operand& operand) const { return buffer(operand).element != Element::F32; }

  void check_operand(const Operand& operand) const {
    require(operand.buffer >= 0 && size_t(operand.buffer) < holdings_.buffers.size(),
            "an operand names no buffer");
    const Buffer& of = buffer(operand);
    require(operand.start >= 0 && operand.columns > 0 && operand.start < of.columns &&
                operand.columns <= of.columns - operand.start,
            "an operand reaches past its buffer");
    const bool whole = operand.start == 0 && operand.columns == of.columns;
    require(whole || (of.kind == Kind::Activation && of.element == Element::F32),
            "only columns of an f32 activation can be taken out of a buffer");
  }

  // Exactly these roles: one operand each of the needed ones, at most one of the optional ones.
  void roles(std::initializer_list<Role> needed, std::initializer_list<Role> optional = {},
             std::initializer_list<Role> lists = {}) const {
    const auto within = [](std::initializer_list<Role> list, Role role) {
      return std::find(list.begin(), list.end(), role) != list.end();
    };
    for (size_t index = 0; index < instruction_.operands.size(); ++index) {
      const Role role = static_cast<Role>(index);
      const size_t count = instruction_.operands[index].size();
      if (within(needed, role))
        require(count == 1, "an instruction lacks an operand, or has one twice");
      else if (within(optional, role))
        require(count <= 1, "an instruction has an operand twice");
      else
        require(count == 0 || within(lists, role), "an opcode does not take such an operand");
    }
  }

  const Operand& activation(Role role) const {
    const Operand& operand = instruction_.one(role);
    require(buffer(operand).kind == Kind::Activation, "an operand must be an activation");
    return operand;
  }
  const Operand& floats(Role role) const {
    const Operand& operand = activation(role);
    require(!int8(operand), "an operand must be f32");
    return operand;
  }
  const Operand& bytes(Role role) const {
    const Operand& operand = activation(role);
    require(int8(operand), "an operand must be int8");
    return operand;
  }
  // What kernels write that round once.
  const Operand& rounded_once(Role role) const {
    const Operand& operand = activation(role);
    require(terms_of(buffer(operand).element) <= 1, "an output cannot have two int8 terms");
    return operand;
  }
  const Weight& weight(const Operand& operand) const {
    require(buffer(operand).kind == Kind::Weight, "an operand must be a weight");
    return holdings_.weights[size_t(buffer(operand).index)];
  }
  void vector(const Operand& operand, int least) const {
    require(buffer(operand).kind == Kind::Vector, "an operand must be a vector");
    require(buffer(operand).columns >= least, "a vector is too short");
  }
  const Cache& cache() const {
    const Operand& operand = instruction_.one(Role::Cache);
    require(buffer(operand).kind == Kind::Cache, "an operand must be a cache");
    return holdings_.caches[size_t(buffer(operand).index)];
  }

  void rows(const Operand& operand, Rows wanted) const {
    require(buffer(operand).rows == wanted, "an operand has the wrong kind of rows");
  }
  void columns(const Operand& operand, int64_t wanted) const {
    require(operand.columns == wanted, "operands differ in columns");
  }
  void same(const Operand& a, const Operand& b) const {
    rows(a, buffer(b).rows);
    columns(a, b.columns);
  }
  // Columns of one head, of which an operand holds `heads`.
  int head(const Operand& operand, int heads) const {
    require(operand.columns % heads == 0, "heads do not divide the columns");
    const int width = operand.columns / heads;
    require(width <= kMostHead, "a head has more than 512 columns");
    return width;
  }
  void turned(int width) const {
    require(pairs_ > 0 && 2 * pairs_ == size_t(width), "frequencies do not fit the heads");
  }
  void whole_groups(const Operand& y, int width) const {
    require(!int8(y) || width % kGroup == 0, "int8 output needs parts of whole groups");
  }

  // A weight that x is multiplied by.
  const Weight& factor(const Operand& operand, const Operand& x) const {
    const Weight& w = weight(operand);
    columns(x, w.columns);
    require(!w.looked_up, "a table for lookups cannot be multiplied by");
    require(!int8(x) || layout_of(w.format).quantized(),
            "int8 activations need a quantised weight");
    return w;
  }

  void embed() const {
    roles({Role::Ids, Role::Table, Role::Y});
    require(buffer(instruction_.one(Role::Ids)).kind == Kind::Input, "ids must be an input");
    const Weight& table = weight(instruction_.one(Role::Table));
    columns(floats(Role::Y), table.columns);
    rows(floats(Role::Y), Rows::Tokens);
    require(instruction_.offset >= 0 && instruction_.offset < table.rows,
            "an offset is outside its table");
  }
  void add() const {
    roles({Role::A, Role::B, Role::Y});
    same(floats(Role::A), floats(Role::Y));
    if (buffer(instruction_.one(Role::B)).kind == Kind::Vector)
      return vector(instruction_.one(Role::B), floats(Role::Y).columns);
    same(floats(Role::B), floats(Role::Y));
  }
  void norm_outputs() const {
    require(instruction_.has(Role::Y) || instruction_.has(Role::Quantized), "a norm has no output");
    if (instruction_.has(Role::Y)) same(floats(Role::Y), floats(Role::X));
    if (instruction_.has(Role::Quantized)) same(bytes(Role::Quantized), floats(Role::X));
  }
  void rms_norm() const {
    roles({Role::X, Role::W}, {Role::Y, Role::Quantized});
    const Operand& x = floats(Role::X);
    require(x.columns % instruction_.heads == 0, "heads do not divide the columns");
    vector(instruction_.one(Role::W), x.columns / instruction_.heads);
    norm_outputs();
  }
  void layer_norm() const {
    roles({Role::X, Role::W, Role::B}, {Role::Y, Role::Quantized});
    vector(instruction_.one(Role::W), floats(Role::X).columns);
    vector(instruction_.one(Role::B), floats(Role::X).columns);
    norm_outputs();
  }
  void quantize() const {
    roles({Role::X, Role::Y});
    same(bytes(Role::Y), floats(Role::X));
  }
  void matmul() const {
    roles({Role::X, Role::Y}, {Role::Residual}, {Role::W, Role::Bias});
    const auto& weights = instruction_.all(Role::W);
    const auto& biases = instruction_.all(Role::Bias);
    const Operand& x = activation(Role::X);
    const Operand& y = rounded_once(Role::Y);
    require(!weights.empty(), "a product has no weights");
    require(biases.empty() || biases.size() == weights.size(), "each weight needs its bias");
    int64_t total = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const Weight& w = factor(weights[i], x);
      whole_groups(y, static_cast<int>(total % kGroup));
      if (!biases.empty()) vector(biases[i], w.rows);
      total += w.rows;
    }
    columns(y, total);
    rows(y, buffer(x).rows);
    if (instruction_.has(Role::Residual)) same(floats(Role::Residual), y);
  }
  void gated_matmul() const {
    roles({Role::X, Role::Gate, Role::Up, Role::Y});
    const Operand& x = activation(Role::X);
    const Operand& y = rounded_once(Role::Y);
    columns(y, factor(instruction_.one(Role::Gate), x).rows);
    columns(y, factor(instruction_.one(Role::Up), x).rows);
    rows(y, buffer(x).rows);
  }
  void adapt() const {
    roles({Role::X, Role::A, Role::Y});
    const Operand& x = floats(Role::X);
    const Operand& y = floats(Role::Y);
    require(instruction_.site >= 0 && instruction_.site < kMostSites, "a site is out of range");
    require(buffer(y).rows != Rows::Sequences, "adapters change rows of tokens");
    rows(x, buffer(y).rows);
    same(floats(Role::A), y);
  }
  void activate() const {
    roles({Role::X, Role::Y});
    same(rounded_once(Role::Y), floats(Role::X));
  }
  void gate() const {
    roles({Role::Gate, Role::Up, Role::Y});
    same(rounded_once(Role::Y), floats(Role::Gate));
    same(rounded_once(Role::Y), floats(Role::Up));
  }
  void rope() const {
    roles({Role::X, Role::Frequencies, Role::Y});
    const Operand& x = floats(Role::X);
    turned(head(x, instruction_.heads));
    rows(x, Rows::Tokens);
    same(floats(Role::Y), x);
  }
  // K and V of every token, and the cache they go to.
  void stored(const Cache& to) const {
    const Operand& k = floats(Role::K);
    columns(k, int64_t(to.heads) * to.head_dim);
    rows(k, Rows::Tokens);
    same(floats(Role::V), k);
  }
  void store() const {
    roles({Role::K, Role::V, Role::Cache});
    stored(cache());
  }
  void rope_store() const {
    roles({Role::Q, Role::K, Role::V, Role::Frequencies, Role::Y, Role::Cache},
          {Role::QNorm, Role::KNorm});
    const Cache& to = cache();
    stored(to);
    const Operand& q = floats(Role::Q);
    columns(q, int64_t(instruction_.heads) * to.head_dim);
    rows(q, Rows::Tokens);
    same(floats(Role::Y), q);
    turned(to.head_dim);
    for (Role role : {Role::QNorm, Role::KNorm})
      if (instruction_.has(role)) vector(instruction_.one(role), to.head_dim);
  }
  void attend() const {
    roles({Role::Q, Role::Cache, Role::Y});
    const Cache& from = cache();
    const Operand& q = floats(Role::Q);
    const Operand& y = rounded_once(Role::Y);
    require(instruction_.heads % from.heads == 0, "KV heads do not divide the heads");
    require(instruction_.heads / from.heads <= kMostShared,
            "more than 24 query heads share a KV head");
    require(instruction_.window >= 0, "a window is negative");
    columns(q, int64_t(instruction_.heads) * from.head_dim);
    rows(q, Rows::Tokens);
    same(y, q);
    whole_groups(y, from.head_dim);
  }
  void attend_all() const {
    roles({Role::Q, Role::K, Role::V, Role::Y});
    const Operand& q = floats(Role::Q);
    const Operand& y = rounded_once(Role::Y);
    rows(q, Rows::Tokens);
    same(floats(Role::K), q);
    same(floats(Role::V), q);
    same(y, q);
    whole_groups(y, head(q, instruction_.heads));
  }
  void select() const {
    roles({Role::X, Role::Y});
    const Operand& x = activation(Role::X);
    const Operand& y = activation(Role::Y);
    rows(x, Rows::Tokens);
    rows(y, Rows::Selected);
    columns(y, x.columns);
    require(buffer(x).element == buffer(y).element, "a selection changes the type of its rows");
  }
  void pool() const {
    roles({Role::X, Role::Y});
    rows(floats(Role::X), Rows::Tokens);
    rows(floats(Role::Y), Rows::Sequences);
    columns(floats(Role::Y), floats(Role::X).columns);
  }
  void normalize() const {
    roles({Role::X, Role::Y});
    same(floats(Role::Y), floats(Role::X));
  }

  const Holdings& holdings_;
  const Instruction& instruction_;
  const size_t pairs_;
};

void Checker::check() {
  for (const auto& operands : instruction_.operands)
    for (const Operand& operand : operands) check_operand(operand);
  require(instruction_.heads > 0 && instruction_.heads <= kMostHeads && instruction_.kv_heads > 0 &&
              instruction_.kv_heads <= kMostHeads,
          "an instruction has 1 to 1024 heads");
  switch (instruction_.op) {
    case Op::Embed: return embed();
    case Op::Add: return add();
    case Op::RmsNorm: return rms_norm();
    case Op::LayerNorm: return layer_norm();
    case Op::Quantize: return quantize();
    case Op::Matmul: return matmul();
    case Op::GatedMatmul: return gated_matmul();
    case Op::Adapt: return adapt();
    case Op::Activate: return activate();
    case Op::Gate: return gate();
    case Op::Rope: return rope();
    case Op::Store: return store();
    case Op::RopeStore: return rope_store();
    case Op::Attend: return attend();
    case Op::AttendAll: return attend_all();
    case Op::Select: return select();
    case Op::Pool: return pool();
    case Op::Normalize: return normalize();
    case Op::Count: break;
  }
  require(false, "there is no such opcode");
}

// Columns that the memory behind a buffer has.
int64_t columns_behind(const Holdings& holdings, const Buffer& buffer) {
  const auto index = static_cast<size_t>(buffer.index);
  switch (buffer.kind) {
    case Kind::Weight: return holdings.weights[index].columns;
    case Kind::Vector: return static_cast<int64_t>(holdings.vectors[index].size());
    case Kind::Cache:
      return int64_t(holdings.caches[index].heads) * holdings.caches[index].head_dim;
    case Kind::Input: return 1;
    case Kind::Activation: break;
  }
  return buffer.columns;
}

void check_sequences(const Batch& batch, int most_tokens, bool keeps_kv) {
  require(batch.tokens > 0 && batch.sequences > 0, "a batch has no tokens");
  require(batch.tokens <= kMostTokens, "a batch has more than 1048576 tokens");
  require(batch.selected >= 0 && batch.selected <= kMostTokens, "a batch has too many output rows");
  require(batch.starts[0] == 0 && batch.starts[batch.sequences] == batch.tokens,
          "starts must rise from 0 to the number of tokens");
  require(batch.positions.size() == size_t(batch.tokens) &&
              batch.sequence_of.size() == size_t(batch.tokens),
          "each token needs a position and a sequence");
  for (int s = 0; s < batch.sequences; ++s) {
    const int start = batch.starts[s];
    require(batch.starts[s + 1] > start && batch.starts[s + 1] <= batch.tokens,
            "a sequence of the batch has no tokens");
    require(batch.contexts[s] >= 0 && batch.contexts[s] <= most_tokens - batch.length(s),
            "a sequence is longer than the context");
    require(keeps_kv || batch.contexts[s] == 0, "an encoder keeps no context");
    for (int row = start; row < batch.starts[s + 1]; ++row)
      require(batch.positions[size_t(row)] == batch.contexts[s] + row - start &&
                  batch.sequence_of[size_t(row)] == s,
              "a token has another position than its sequence gives it");
  }
}

void check_pages(const Holdings& holdings, const Batch& batch) {
  if (holdings.caches.empty()) return;
  int pages = INT32_MAX;
  for (const Cache& cache : holdings.caches) pages = std::min(pages, cache.pages);
  enum Use : uint8_t { kUnused, kRead, kWritten };
  std::vector<Use> uses(size_t(pages), kUnused);
  for (int s = 0; s < batch.sequences; ++s) {
    const int first_written = batch.contexts[s] / kPageTokens;
    const int last = (batch.contexts[s] + batch.length(s) - 1) / kPageTokens;
    require(last < batch.page_columns, "a sequence has too few KV pages");
    for (int i = 0; i <= last; ++i) {
      const int page = batch.pages_of(s)[i];
      require(page >= 0 && page < pages, "a KV page is out of range");
      const Use use = i < first_written ? kRead : kWritten;
      require(uses[size_t(page)] == kUnused || (use == kRead && uses[size_t(page)] == kRead),
              "a KV page that is written is used twice");
      uses[size_t(page)] = use;
    }
  }
}

void check_adapters(const Holdings& holdings, const Batch& batch) {
  for (int s = 0; batch.adapters && s < batch.sequences; ++s)
    require(batch.adapters[s] >= 0 && batch.adapters[s] <= holdings.adapters,
            "the machine has no such adapter");
}

void check_ids(const Holdings& holdings, const Instruction& instruction, const Batch& batch) {
  const auto index_of = [&](Role role) {
    return holdings.buffers[size_t(instruction.one(role).buffer)].index;
  };
  const int rows = holdings.weights[size_t(index_of(Role::Table))].rows - instruction.offset;
  const int32_t* ids = batch.ids(index_of(Role::Ids));
  for (int row = 0; ids && row < batch.tokens; ++row)
    require(ids[row] >= 0 && ids[row] < rows, "a token id, position or type is outside its table");
}

}  // namespace

void check_buffer(const Holdings& holdings, const Buffer& buffer) {
  const size_t limits[] = {3, holdings.weights.size(), holdings.vectors.size(), holdings.slots,
                           holdings.caches.size()};
  require(buffer.index >= 0 && size_t(buffer.index) < limits[static_cast<size_t>(buffer.kind)],
          "a buffer stands for memory that is not there");
  require(buffer.columns > 0, "a buffer has no columns");
  require(buffer.columns == columns_behind(holdings, buffer),
          "a buffer has other columns than its memory");
  if (buffer.kind != Kind::Activation) return;
  require(buffer.rows != Rows::None, "an activation has no rows");
  require(buffer.columns <= kMostColumns, "an activation has more than 1048576 columns");
}

void check_instruction(const Holdings& holdings, const Instruction& instruction, size_t pairs) {
  Checker(holdings, instruction, pairs).check();
}

void check_batch(const Holdings& holdings, const std::vector<Instruction>& instructions,
                 const Batch& batch) {
  check_sequences(batch, holdings.context, !holdings.caches.empty());
  check_pages(holdings, batch);
  check_adapters(holdings, batch);
  for (int row = 0; row < batch.selected; ++row)
    require(batch.output_rows[row] >= 0 && batch.output_rows[row] < batch.tokens,
            "an output row is out of range");
  for (const Instruction& instruction : instructions)
    if (instruction.op == Op::Embed) check_ids(holdings, instruction, batch);
}

}  // namespace overclock
