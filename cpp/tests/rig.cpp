#include "tests/rig.h"

#include <numeric>

namespace overclock::testing {

Batch Feed::batch() {
  const int tokens = std::accumulate(lengths.begin(), lengths.end(), 0);
  contexts.resize(lengths.size());
  starts = {0};
  Batch batch;
  token_ids.clear();
  for (size_t s = 0; s < lengths.size(); ++s) {
    for (int i = 0; i < lengths[s]; ++i) {
      token_ids.push_back(first_ids.empty() ? static_cast<int>(token_ids.size())
                                            : first_ids[s] + i);
      batch.positions.push_back(contexts[s] + i);
      batch.sequence_of.push_back(static_cast<int32_t>(s));
    }
    starts.push_back(static_cast<int32_t>(token_ids.size()));
  }
  batch.tokens = tokens;
  batch.sequences = static_cast<int>(lengths.size());
  batch.selected = static_cast<int>(output_rows.size());
  batch.page_columns = page_columns;
  batch.token_ids = token_ids.data();
  batch.starts = starts.data();
  batch.contexts = contexts.data();
  batch.pages = pages.data();
  batch.output_rows = output_rows.data();
  batch.token_types = token_types.empty() ? nullptr : token_types.data();
  batch.adapters = adapters.empty() ? nullptr : adapters.data();
  return batch;
}

Feed one_sequence(int tokens) {
  Feed feed;
  feed.lengths = {tokens};
  return feed;
}

Instruction make(Op op, Roles roles) {
  Instruction instruction{};
  instruction.op = op;
  for (const auto& [role, operands] : roles)
    instruction.operands[static_cast<size_t>(role)] = operands;
  return instruction;
}

Operand Rig::buffer(Buffer buffer) {
  rows_.push_back(buffer.rows);
  return {machine_.add_buffer(buffer), 0, buffer.columns};
}

Operand Rig::input(int index) {
  return buffer({Kind::Input, Rows::Tokens, Element::F32, 1, index});
}

Operand Rig::weight(const Stored& from, Format held) {
  const Source source{from.format,       from.rows,         from.columns,
                      from.bytes.data(), from.bytes.size(), false};
  const int index = machine_.add_weight(source, held);
  return buffer({Kind::Weight, Rows::None, Element::F32, from.columns, index});
}

Operand Rig::vector(const std::vector<float>& values) {
  const int columns = static_cast<int>(values.size());
  return buffer({Kind::Vector, Rows::None, Element::F32, columns, machine_.add_vector(values)});
}

Operand Rig::cache(int heads, int head_dim, int pages) {
  const int index = machine_.add_cache(heads, head_dim, pages);
  return buffer({Kind::Cache, Rows::None, Element::F32, heads * head_dim, index});
}

Operand Rig::activation(int columns, Rows rows, Element element) {
  return buffer({Kind::Activation, rows, element, columns, machine_.add_slot()});
}

Operand Rig::given(const Matrix& values) {
  const Operand y = activation(values.columns);
  give(values, y);
  return y;
}

void Rig::give(const Matrix& values, const Operand& to) {
  add(Op::Embed,
      {{Role::Ids, {input(0)}}, {Role::Table, {weight(stored(values))}}, {Role::Y, {to}}});
}

Operand Rig::quantized(const Operand& x, int terms) {
  const Operand y = activation(x.columns, rows_[size_t(x.buffer)], static_cast<Element>(terms));
  add(Op::Quantize, {{Role::X, {x}}, {Role::Y, {y}}});
  return y;
}

Operand Rig::dequantized(const Operand& x) {
  Matrix identity = zeros(x.columns, x.columns);
  for (int i = 0; i < x.columns; ++i) identity.at(i, i) = 1.0f;
  const Operand y = activation(x.columns, rows_[size_t(x.buffer)]);
  add(Op::Matmul,
      {{Role::X, {x}}, {Role::W, {weight(stored(identity), Format::I8)}}, {Role::Y, {y}}});
  return y;
}

void Rig::add(const Instruction& instruction, const std::vector<float>& frequencies) {
  machine_.add_instruction(instruction, frequencies);
  instructions_.push_back(static_cast<int>(instructions_.size()));
}

Matrix Rig::run(Feed feed, const Operand& output) {
  const Batch batch = feed.batch();
  const int index = machine_.add_output(output.buffer, instructions_);
  Matrix result = zeros(machine_.output_rows(batch, index), machine_.output_columns(index));
  machine_.run(batch, index, result.values.data());
  return result;
}

}  // namespace overclock::testing
