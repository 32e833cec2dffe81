// Small programs on a machine, driven through its public interface.
#pragma once

#include <initializer_list>
#include <utility>

#include "core/machine.h"
#include "tests/stored.h"

namespace overclock::testing {

// A batch and the memory it points to. Sequence s has `lengths[s]` tokens after `contexts[s]` (none
// unless given), whose ids count up from `first_ids[s]`, or over the whole batch if there are none.
struct Feed {
  std::vector<int> lengths;
  std::vector<int32_t> contexts;
  std::vector<int32_t> first_ids;
  int page_columns = 0;
  std::vector<int32_t> pages;
  std::vector<int32_t> output_rows;
  std::vector<int32_t> token_types;
  std::vector<int32_t> adapters;
  std::vector<int32_t> token_ids;
  std::vector<int32_t> starts;

  Batch batch();
};
Feed one_sequence(int tokens);

using Roles = std::initializer_list<std::pair<Role, std::vector<Operand>>>;
Instruction make(Op op, Roles roles);

class Rig {
 public:
  explicit Rig(const std::string& tier, int threads = 1, KvFormat kv = KvFormat::F32)
      : machine_(threads, kv, tier) {}

  Machine& machine() { return machine_; }

  Operand input(int index);  // 0: token ids, 1: positions, 2: token types
  Operand weight(const Stored& stored, Format held);
  Operand weight(const Stored& stored) { return weight(stored, stored.format); }
  Operand vector(const std::vector<float>& values);
  Operand cache(int heads, int head_dim, int pages);
  Operand activation(int columns, Rows rows = Rows::Tokens, Element element = Element::F32);
  // A fresh activation whose row t is row token_ids[t] of the values.
  Operand given(const Matrix& values);
  // The same rows in an activation that is there already.
  void give(const Matrix& values, const Operand& to);
  // int8 of an activation, in one term or two.
  Operand quantized(const Operand& x, int terms = 1);
  // What an int8 activation stands for: a product with the identity.
  Operand dequantized(const Operand& x);

  void add(const Instruction& instruction, const std::vector<float>& frequencies = {});
  void add(Op op, Roles roles) { add(make(op, roles)); }

  // Runs all instructions so far.
  Matrix run(Feed feed, const Operand& output);
  Matrix run(int tokens, const Operand& output) { return run(one_sequence(tokens), output); }

 private:
  Operand buffer(Buffer buffer);

  Machine machine_;
  std::vector<Rows> rows_;  // of each buffer
  std::vector<int> instructions_;
};

}  // namespace overclock::testing
