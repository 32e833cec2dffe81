// What is malformed is refused with std::invalid_argument, and what is not refused runs without
// leaving its memory (which the sanitizers watch).
#include <climits>

#include "tests/rig.h"

namespace overclock::testing {
namespace {

// A machine with one operand of every kind.
struct Bench {
  Rig rig;
  Operand ids, positions, table, small, lookup, vector, short_vector, frequencies, cache;
  Operand x, y, wide, selected, pooled, x8, y8, twice;

  explicit Bench(const std::string& tier, int threads = 1) : rig(tier, threads) {
    Random random(31);
    ids = rig.input(0);
    positions = rig.input(1);
    table = rig.weight(random_stored(random, Format::Q8_0, 64, 64));
    small = rig.weight(random_stored(random, Format::F32, 32, 64));
    const int index = rig.machine().add_table(source());
    lookup = {rig.machine().add_buffer({Kind::Weight, Rows::None, Element::F32, 64, index}), 0, 64};
    vector = rig.vector(std::vector<float>(64, 1.0f));
    short_vector = rig.vector(std::vector<float>(16, 1.0f));
    frequencies = rig.vector(std::vector<float>(8, 0.5f));
    cache = rig.cache(2, 16, 3);
    x = rig.activation(64);
    y = rig.activation(64);
    wide = rig.activation(96);
    selected = rig.activation(64, Rows::Selected);
    pooled = rig.activation(64, Rows::Sequences);
    x8 = rig.activation(64, Rows::Tokens, Element::I8);
    y8 = rig.activation(64, Rows::Tokens, Element::I8);
    twice = rig.activation(64, Rows::Tokens, Element::I8x2);
  }

  static Source source() {
    static const Matrix values = zeros(64, 64);
    return {Format::F32,
            64,
            64,
            reinterpret_cast<const uint8_t*>(values.values.data()),
            4 * values.values.size(),
            false};
  }
  Operand part(const Operand& of, int start, int columns) const {
    return {of.buffer, start, columns};
  }
  void refuse(const Instruction& instruction, const std::string& what,
              const std::vector<float>& values = {}) {
    check_refused([&] { rig.add(instruction, values); }, what);
  }
  void refuse(Op op, Roles roles, const std::string& what) { refuse(make(op, roles), what); }
};

const std::vector<float> kEight(8, 0.5f);

Instruction with_heads(Instruction instruction, int heads, int kv_heads = 1) {
  instruction.heads = heads;
  instruction.kv_heads = kv_heads;
  return instruction;
}

KERNEL_TEST(malformed_operands_are_refused) {
  Bench b(tier);
  b.refuse(Op::Normalize, {}, "no operands");
  b.refuse(Op::Normalize, {{Role::X, {b.x}}}, "no output");
  b.refuse(Op::Normalize, {{Role::X, {b.x, b.x}}, {Role::Y, {b.y}}}, "two inputs");
  b.refuse(Op::Normalize, {{Role::X, {b.x}}, {Role::Y, {b.y}}, {Role::W, {b.table}}}, "a weight");
  b.refuse(Op::Count, {{Role::X, {b.x}}, {Role::Y, {b.y}}}, "no opcode");
  for (int buffer : {-1, 1000, INT_MAX, INT_MIN})
    b.refuse(Op::Normalize, {{Role::X, {{buffer, 0, 64}}}, {Role::Y, {b.y}}}, "no such buffer");
  constexpr int kParts[][2] = {{-1, 64}, {0, 65},       {1, 64},      {64, 1},
                               {0, 0},   {0, -1},       {INT_MAX, 1}, {1, INT_MAX},
                               {-1, 1},  {INT_MIN, 64}, {0, INT_MIN}, {63, INT_MAX}};
  for (const auto& [start, columns] : kParts) {
    const Operand part = b.part(b.x, start, columns);
    b.refuse(Op::Normalize, {{Role::X, {part}}, {Role::Y, {part}}}, "past the buffer");
  }
  for (const Operand& wrong : {b.ids, b.table, b.vector, b.cache, b.x8})
    b.refuse(Op::Normalize, {{Role::X, {wrong}}, {Role::Y, {b.y}}}, "another kind");
  b.refuse(Op::Normalize, {{Role::X, {b.x}}, {Role::Y, {b.selected}}}, "other rows");
  b.refuse(Op::Normalize, {{Role::X, {b.x}}, {Role::Y, {b.wide}}}, "other columns");
  b.refuse(Op::Quantize, {{Role::X, {b.x}}, {Role::Y, {b.part(b.y8, 0, 32)}}}, "part of int8");
}

KERNEL_TEST(malformed_lookups_and_sums_are_refused) {
  Bench b(tier);
  const Instruction embed =
      make(Op::Embed, {{Role::Ids, {b.ids}}, {Role::Table, {b.table}}, {Role::Y, {b.x}}});
  for (int offset : {-1, 64, INT_MAX, INT_MIN}) {
    Instruction moved = embed;
    moved.offset = offset;
    b.refuse(moved, "offset");
  }
  for (const Operand& wrong : {b.x, b.vector, b.cache, b.ids})
    b.refuse(Op::Embed, {{Role::Ids, {b.ids}}, {Role::Table, {wrong}}, {Role::Y, {b.x}}}, "table");
  for (const Operand& wrong : {b.table, b.vector, b.x8, b.wide, b.selected, b.pooled, b.ids})
    b.refuse(Op::Embed, {{Role::Ids, {b.ids}}, {Role::Table, {b.table}}, {Role::Y, {wrong}}}, "y");
  b.refuse(Op::Embed, {{Role::Ids, {b.x}}, {Role::Table, {b.table}}, {Role::Y, {b.x}}}, "ids");
  for (const Operand& wrong : {b.short_vector, b.table, b.x8, b.pooled, b.cache, b.ids})
    b.refuse(Op::Add, {{Role::A, {b.x}}, {Role::B, {wrong}}, {Role::Y, {b.y}}}, "sum");
}

KERNEL_TEST(malformed_norms_are_refused) {
  Bench b(tier);
  const Instruction norm =
      make(Op::RmsNorm, {{Role::X, {b.x}}, {Role::W, {b.vector}}, {Role::Y, {b.y}}});
  for (int heads : {0, -1, 3, 65, INT_MAX, INT_MIN}) b.refuse(with_heads(norm, heads), "heads");
  b.refuse(Op::RmsNorm, {{Role::X, {b.x}}, {Role::W, {b.vector}}}, "no output");
  for (const Operand& wrong : {b.short_vector, b.table, b.x, b.ids, b.cache})
    b.refuse(Op::RmsNorm, {{Role::X, {b.x}}, {Role::W, {wrong}}, {Role::Y, {b.y}}}, "w");
  b.refuse(Op::RmsNorm, {{Role::X, {b.x}}, {Role::W, {b.vector}}, {Role::Quantized, {b.y}}}, "q");
  b.refuse(Op::LayerNorm, {{Role::X, {b.x}}, {Role::W, {b.vector}}, {Role::Y, {b.y}}}, "no b");
}

KERNEL_TEST(malformed_products_are_refused) {
  Bench b(tier);
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::Y, {b.y}}}, "no weights");
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.table}}, {Role::Y, {b.wide}}}, "y columns");
  b.refuse(Op::Matmul, {{Role::X, {b.wide}}, {Role::W, {b.table}}, {Role::Y, {b.y}}}, "x columns");
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.lookup}}, {Role::Y, {b.y}}}, "lookup table");
  b.refuse(Op::Matmul, {{Role::X, {b.x8}}, {Role::W, {b.lookup}}, {Role::Y, {b.y}}},
           "lookup table");
  b.refuse(Op::Matmul, {{Role::X, {b.x8}}, {Role::W, {b.small, b.small}}, {Role::Y, {b.y}}},
           "int8 by f32");
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.table}}, {Role::Y, {b.selected}}}, "rows");
  b.refuse(Op::Matmul, {{Role::X, {b.pooled}}, {Role::W, {b.table}}, {Role::Y, {b.y}}}, "rows");
  for (const Operand& wrong : {b.x, b.vector, b.cache, b.ids, b.small})
    b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {wrong}}, {Role::Y, {b.y}}}, "weight");
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.part(b.table, 0, 32)}}, {Role::Y, {b.y}}},
           "part of a weight");
  for (const Operand& wrong : {b.short_vector, b.x, b.table})
    b.refuse(Op::Matmul,
             {{Role::X, {b.x}}, {Role::W, {b.table}}, {Role::Bias, {wrong}}, {Role::Y, {b.y}}},
             "bias");
  b.refuse(
      Op::Matmul,
      {{Role::X, {b.x}}, {Role::W, {b.small, b.small}}, {Role::Bias, {b.vector}}, {Role::Y, {b.y}}},
      "one bias for two weights");
  for (const Operand& wrong : {b.y8, b.pooled, b.wide, b.vector, b.table})
    b.refuse(Op::Matmul,
             {{Role::X, {b.x}}, {Role::W, {b.table}}, {Role::Residual, {wrong}}, {Role::Y, {b.y}}},
             "residual");
  b.refuse(Op::GatedMatmul,
           {{Role::X, {b.x}}, {Role::Gate, {b.table}}, {Role::Up, {b.small}}, {Role::Y, {b.y}}},
           "gate and up of other sizes");
  Random random(33);
  const Operand odd = b.rig.weight(random_stored(random, Format::Q8_0, 31, 64));
  const Operand rest = b.rig.weight(random_stored(random, Format::Q8_0, 33, 64));
  b.refuse(Op::Matmul, {{Role::X, {b.x8}}, {Role::W, {odd, rest}}, {Role::Y, {b.y8}}},
           "int8 output that is not in groups");
}

KERNEL_TEST(two_int8_terms_where_none_are_written_are_refused) {
  Bench b(tier);
  const Operand y = b.twice;
  b.refuse(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.table}}, {Role::Y, {y}}}, "product");
  b.refuse(Op::GatedMatmul,
           {{Role::X, {b.x}}, {Role::Gate, {b.table}}, {Role::Up, {b.table}}, {Role::Y, {y}}},
           "gated product");
  b.refuse(Op::Activate, {{Role::X, {b.x}}, {Role::Y, {y}}}, "activation");
  b.refuse(Op::Gate, {{Role::Gate, {b.x}}, {Role::Up, {b.x}}, {Role::Y, {y}}}, "gate");
  const Operand wide = b.rig.cache(1, 64, 3);
  b.refuse(Op::Attend, {{Role::Q, {b.x}}, {Role::Cache, {wide}}, {Role::Y, {y}}}, "attention");
  b.refuse(Op::AttendAll, {{Role::Q, {b.x}}, {Role::K, {b.x}}, {Role::V, {b.x}}, {Role::Y, {y}}},
           "attention of all to all");
  const Operand once = b.rig.activation(64, Rows::Selected, Element::I8);
  b.refuse(Op::Select, {{Role::X, {y}}, {Role::Y, {once}}}, "selection");
}

KERNEL_TEST(malformed_attention_is_refused) {
  Bench b(tier);
  const Operand kv = b.part(b.x, 0, 32);
  const Instruction rope =
      make(Op::Rope, {{Role::X, {b.x}}, {Role::Frequencies, {b.frequencies}}, {Role::Y, {b.y}}});
  for (int heads : {0, 1, 3, 5, 64, INT_MAX})
    b.refuse(with_heads(rope, heads), "rope of other heads", kEight);
  b.refuse(with_heads(rope, 4), "rope without frequencies");
  b.refuse(Op::Store, {{Role::K, {b.x}}, {Role::V, {b.x}}, {Role::Cache, {b.cache}}}, "wide store");
  b.refuse(Op::Store, {{Role::K, {kv}}, {Role::V, {kv}}, {Role::Cache, {b.vector}}}, "no cache");
  const Operand few = b.rig.activation(32, Rows::Selected);
  b.refuse(Op::Store, {{Role::K, {few}}, {Role::V, {few}}, {Role::Cache, {b.cache}}}, "rows");
  const Instruction both = make(Op::RopeStore, {{Role::Q, {b.x}},
                                                {Role::K, {kv}},
                                                {Role::V, {kv}},
                                                {Role::Frequencies, {b.frequencies}},
                                                {Role::Y, {b.y}},
                                                {Role::Cache, {b.cache}}});
  b.refuse(with_heads(both, 3, 2), "heads", kEight);
  b.refuse(with_heads(both, 4, 2), "frequencies", {0.5f});
  Instruction normed = with_heads(both, 4, 2);
  normed.operands[size_t(Role::KNorm)] = {b.frequencies};
  b.refuse(normed, "norm that is too short", kEight);
  const Instruction attend =
      make(Op::Attend, {{Role::Q, {b.x}}, {Role::Cache, {b.cache}}, {Role::Y, {b.y}}});
  for (int heads : {0, -4, 1, 2, 3, 8, INT_MAX}) b.refuse(with_heads(attend, heads, 2), "heads");
  b.refuse(
      with_heads(make(Op::Attend, {{Role::Q, {b.x}}, {Role::Cache, {b.cache}}, {Role::Y, {b.y8}}}),
                 4, 2),
      "int8 output in parts of groups");
  Instruction window = with_heads(attend, 4, 2);
  window.window = -1;
  b.refuse(window, "negative window");
  const Operand many = b.rig.activation(25 * 16);
  const Operand one = b.rig.cache(1, 16, 3);
  b.refuse(with_heads(
               make(Op::Attend, {{Role::Q, {many}}, {Role::Cache, {one}}, {Role::Y, {many}}}), 25),
           "too many heads that share");
  const Instruction all =
      make(Op::AttendAll, {{Role::Q, {b.x}}, {Role::K, {b.y}}, {Role::V, {b.y}}, {Role::Y, {b.x}}});
  for (int heads : {0, 3, 128, INT_MAX}) b.refuse(with_heads(all, heads), "heads");
  const Operand huge = b.rig.activation(513);
  b.refuse(Op::AttendAll,
           {{Role::Q, {huge}}, {Role::K, {huge}}, {Role::V, {huge}}, {Role::Y, {huge}}},
           "a head that is too wide");
}

KERNEL_TEST(malformed_memory_is_refused) {
  Rig rig(tier);
  Machine& machine = rig.machine();
  const std::vector<uint8_t> bytes(4096);
  const auto weight = [&](Format from, int rows, int columns, size_t size, Format held) {
    check_refused(
        [&] { machine.add_weight({from, rows, columns, bytes.data(), size, false}, held); },
        "weight");
  };
  weight(Format::F32, 0, 4, 0, Format::F32);
  weight(Format::F32, 4, -4, 0, Format::F32);
  weight(Format::F32, 4, 4, 63, Format::F32);
  weight(Format::F32, INT_MAX, INT_MAX, 4, Format::F32);
  weight(Format::F16, 1 << 30, 4, size_t{1} << 33, Format::F16);
  weight(Format::Q4_0, 1, 33, 18, Format::Q4_0);
  weight(Format::Q4_K, 1, 32, 18, Format::Q4_K);
  weight(Format::Q4_0, 1, 32, 18, Format::I8);
  weight(Format::F32, 1, 32, 128, Format::F16);
  weight(Format::I8, 1, 32, 32, Format::I8);
  check_refused([&] { machine.add_table({Format::Q4_0, 1, 32, bytes.data(), 18, false}); },
                "table");
  check_refused([&] { machine.add_table({Format::F32, 2, 32, bytes.data(), 18, false}); }, "table");
  constexpr int kCaches[][3] = {{0, 8, 1},   {-1, 8, 1}, {1, 0, 1},
                                {1, 513, 1}, {1, 8, -1}, {INT_MAX, 512, INT_MAX}};
  for (const auto& [heads, width, pages] : kCaches)
    check_refused([&] { machine.add_cache(heads, width, pages); }, "cache");
  const auto buffer = [&](Kind kind, Rows rows, int columns, int index) {
    check_refused([&] { machine.add_buffer({kind, rows, Element::F32, columns, index}); },
                  "buffer");
  };
  for (Kind kind : {Kind::Weight, Kind::Vector, Kind::Activation, Kind::Cache})
    for (int index : {0, -1, 1, INT_MAX}) buffer(kind, Rows::Tokens, 4, index);
  buffer(Kind::Input, Rows::Tokens, 1, 3);
  machine.add_slot();
  buffer(Kind::Activation, Rows::None, 4, 0);
  buffer(Kind::Activation, Rows::Tokens, 0, 0);
  buffer(Kind::Activation, Rows::Tokens, INT_MAX, 0);
  machine.add_vector({1.0f, 2.0f});
  buffer(Kind::Vector, Rows::None, 3, 0);
  for (int threads : {0, -1, 1025, INT_MIN})
    check_refused([&] { Machine(threads, KvFormat::F16, tier); }, "threads");
  check_refused([&] { Machine(1, KvFormat::F16, "no such tier"); }, "tier");
}

KERNEL_TEST(malformed_outputs_are_refused) {
  Bench b(tier);
  Machine& machine = b.rig.machine();
  for (int buffer : {-1, 1000, b.x8.buffer, b.table.buffer, b.ids.buffer, b.vector.buffer})
    check_refused([&] { machine.add_output(buffer, {}); }, "output");
  for (int instruction : {-1, 0, INT_MAX})
    check_refused([&] { machine.add_output(b.x.buffer, {instruction}); }, "instruction");
  Feed feed = one_sequence(1);
  const Batch batch = feed.batch();
  float result[64];
  for (int output : {-1, 0, INT_MAX}) {
    check_refused([&] { machine.run(batch, output, result); }, "no such output");
    check_refused([&] { machine.output_rows(batch, output); }, "no such output");
    check_refused([&] { machine.output_columns(output); }, "no such output");
  }
}

// A decoder of one layer whose batch can be spoilt.
struct Decoder {
  Rig rig;
  Operand y;

  explicit Decoder(const std::string& tier) : rig(tier, 2) {
    const Matrix table = zeros(10, 16);
    const Operand x = rig.given(table);
    const Operand cache = rig.cache(1, 16, 4);
    rig.add(Op::Store, {{Role::K, {x}}, {Role::V, {x}}, {Role::Cache, {cache}}});
    const Operand out = rig.activation(16);
    rig.add(Op::Attend, {{Role::Q, {x}}, {Role::Cache, {cache}}, {Role::Y, {out}}});
    y = rig.activation(16, Rows::Selected);
    rig.add(Op::Select, {{Role::X, {out}}, {Role::Y, {y}}});
  }
  static Feed feed() {
    Feed feed;
    feed.lengths = {4, 5};
    feed.contexts = {30, 0};
    feed.page_columns = 2;
    feed.pages = {3, 1, 0, -1};
    feed.output_rows = {3, 8};
    return feed;
  }
};

KERNEL_TEST(malformed_batches_are_refused) {
  Decoder decoder(tier);
  decoder.rig.run(Decoder::feed(), decoder.y);
  const int output = decoder.rig.machine().add_output(decoder.y.buffer, {0, 1, 2});
  std::vector<float> result(size_t(16 * 16));
  const auto refuse = [&](const std::string& what, const std::function<void(Feed&)>& before,
                          const std::function<void(Feed&, Batch&)>& after) {
    Feed feed = Decoder::feed();
    before(feed);
    Batch batch = feed.batch();
    after(feed, batch);
    check_refused([&] { decoder.rig.machine().run(batch, output, result.data()); }, what);
  };
  const auto feed_with = [&](const std::string& what, const std::function<void(Feed&)>& spoil) {
    refuse(what, spoil, [](Feed&, Batch&) {});
  };
  const auto batch_with = [&](const std::string& what,
                              const std::function<void(Feed&, Batch&)>& spoil) {
    refuse(what, [](Feed&) {}, spoil);
  };
  for (int id : {-1, 10, INT_MAX, INT_MIN}) {
    batch_with("token id", [=](Feed& f, Batch&) { f.token_ids[8] = id; });
    feed_with("page", [=](Feed& f) { f.pages[0] = id; });
    feed_with("page", [=](Feed& f) { f.pages[1] = id; });
    feed_with("output row", [=](Feed& f) { f.output_rows[1] = id; });
    batch_with("start", [=](Feed& f, Batch&) { f.starts[1] = id; });
    batch_with("last start", [=](Feed& f, Batch&) { f.starts[2] = id; });
    batch_with("first start", [=](Feed& f, Batch&) { f.starts[0] = id; });
    batch_with("position", [=](Feed&, Batch& b) { b.positions[2] = id; });
    batch_with("sequence", [=](Feed&, Batch& b) { b.sequence_of[2] = id; });
  }
  for (int context : {-1, 61, 100, INT_MAX, INT_MAX - 3, INT_MIN})
    batch_with("context", [=](Feed& f, Batch&) { f.contexts[0] = context; });
  for (int columns : {-1, 0, 1})
    batch_with("columns", [=](Feed&, Batch& b) { b.page_columns = columns; });
  batch_with("equal starts", [](Feed& f, Batch&) { f.starts[1] = 0; });
  batch_with("no tokens", [](Feed&, Batch& b) { b.tokens = 0; });
  batch_with("tokens", [](Feed&, Batch& b) { b.tokens = -5; });
  batch_with("no sequences", [](Feed&, Batch& b) { b.sequences = 0; });
  batch_with("selected", [](Feed&, Batch& b) { b.selected = -1; });
  batch_with("few positions", [](Feed&, Batch& b) { b.positions.pop_back(); });
  batch_with("few sequences", [](Feed&, Batch& b) { b.sequence_of.pop_back(); });
  feed_with("a page written by two", [](Feed& f) { f.pages[2] = 3; });
  decoder.rig.run(Decoder::feed(), decoder.y);
}

KERNEL_TEST(token_types_outside_their_table_are_refused) {
  Rig rig(tier);
  const Operand y = rig.activation(8);
  const Matrix table = zeros(2, 8);
  rig.add(
      Op::Embed,
      {{Role::Ids, {rig.input(2)}}, {Role::Table, {rig.weight(stored(table))}}, {Role::Y, {y}}});
  Feed feed = one_sequence(3);
  for (int type : {-1, 2, INT_MAX}) {
    feed.token_types = {0, 1, type};
    check_refused([&] { rig.run(feed, y); }, "token type");
  }
}

// One good instruction of every opcode.
std::vector<Instruction> good_instructions(const Bench& b) {
  const Operand kv = b.part(b.x, 0, 32);
  return {
      make(Op::Embed, {{Role::Ids, {b.ids}}, {Role::Table, {b.table}}, {Role::Y, {b.x}}}),
      make(Op::Add, {{Role::A, {b.x}}, {Role::B, {b.vector}}, {Role::Y, {b.y}}}),
      make(Op::RmsNorm, {{Role::X, {b.x}}, {Role::W, {b.vector}}, {Role::Quantized, {b.x8}}}),
      make(Op::LayerNorm,
           {{Role::X, {b.x}}, {Role::W, {b.vector}}, {Role::B, {b.vector}}, {Role::Y, {b.y}}}),
      make(Op::Quantize, {{Role::X, {b.x}}, {Role::Y, {b.x8}}}),
      make(Op::Matmul, {{Role::X, {b.x}}, {Role::W, {b.small, b.table}}, {Role::Y, {b.wide}}}),
      make(Op::Matmul, {{Role::X, {b.x8}},
                        {Role::W, {b.table}},
                        {Role::Bias, {b.vector}},
                        {Role::Residual, {b.x}},
                        {Role::Y, {b.y8}}}),
      make(Op::GatedMatmul,
           {{Role::X, {b.x8}}, {Role::Gate, {b.table}}, {Role::Up, {b.table}}, {Role::Y, {b.y}}}),
      make(Op::Activate, {{Role::X, {b.x}}, {Role::Y, {b.y8}}}),
      make(Op::Gate, {{Role::Gate, {b.x}}, {Role::Up, {b.y}}, {Role::Y, {b.y}}}),
      with_heads(make(Op::Rope,
                      {{Role::X, {b.x}}, {Role::Frequencies, {b.frequencies}}, {Role::Y, {b.y}}}),
                 4),
      make(Op::Store, {{Role::K, {kv}}, {Role::V, {kv}}, {Role::Cache, {b.cache}}}),
      with_heads(make(Op::RopeStore, {{Role::Q, {b.x}},
                                      {Role::K, {kv}},
                                      {Role::V, {kv}},
                                      {Role::Frequencies, {b.frequencies}},
                                      {Role::QNorm, {b.vector}},
                                      {Role::Y, {b.y}},
                                      {Role::Cache, {b.cache}}}),
                 4, 2),
      with_heads(make(Op::Attend, {{Role::Q, {b.x}}, {Role::Cache, {b.cache}}, {Role::Y, {b.y}}}),
                 4, 2),
      with_heads(make(Op::AttendAll,
                      {{Role::Q, {b.x}}, {Role::K, {b.y}}, {Role::V, {b.y}}, {Role::Y, {b.x}}}),
                 4),
      make(Op::Select, {{Role::X, {b.x}}, {Role::Y, {b.selected}}}),
      make(Op::Pool, {{Role::X, {b.x}}, {Role::Y, {b.pooled}}}),
      make(Op::Normalize, {{Role::X, {b.x}}, {Role::Y, {b.y}}})};
}

// Changes an operand, the number of operands, a number or the opcode.
void spoil(Random& random, const std::vector<Operand>& pool, Instruction& instruction) {
  auto& operands = instruction.operands[size_t(below(random, int(Role::Count)))];
  switch (below(random, 8)) {
    case 0: instruction.heads = 1 + below(random, 8); break;
    case 1: instruction.kv_heads = 1 + below(random, 8); break;
    case 2: instruction.window = 7 * below(random, 4) - 7; break;
    case 3: instruction.offset = below(random, 6) - 2; break;
    case 4: instruction.op = static_cast<Op>(below(random, int(Op::Count))); break;
    case 5: operands.clear(); break;
    default: {
      Operand any = pool[size_t(below(random, int(pool.size())))];
      if (below(random, 3) == 0)
        any = {any.buffer, 16 * below(random, 3), 16 + 16 * below(random, 4)};
      if (below(random, 4) == 0 || operands.empty())
        operands.push_back(any);
      else
        operands.back() = any;
    }
  }
}

// Good instructions that are changed at random: what is accepted is run.
KERNEL_TEST(spoilt_instructions_are_refused_or_run) {
  Random random(41);
  int accepted = 0;
  for (int round = 0; round < 10; ++round) {
    Bench b(tier, round == 0 ? 2 : 1);
    const std::vector<Operand> pool = {
        b.ids, b.table, b.small, b.lookup,   b.vector, b.cache, b.short_vector, b.frequencies,
        b.x,   b.y,     b.wide,  b.selected, b.pooled, b.x8,    b.y8,           b.twice};
    const std::vector<Instruction> good = good_instructions(b);
    // Between the others, so that no number grows without bound.
    const auto refresh = [&] {
      for (const Instruction& instruction : good) b.rig.add(instruction, kEight);
    };
    refresh();
    for (int tries = 0; tries < 400; ++tries) {
      Instruction spoilt = good[size_t(below(random, int(good.size())))];
      for (int changes = 1 + below(random, 3); changes > 0; --changes) spoil(random, pool, spoilt);
      try {
        b.rig.add(spoilt, below(random, 4) ? kEight : std::vector<float>{});
        refresh();
        ++accepted;
      } catch (const std::invalid_argument&) {
      }
    }
    Feed feed;
    feed.lengths = {3, 25};
    feed.contexts = {0, 20};
    feed.page_columns = 2;
    feed.pages = {2, -1, 0, 1};
    feed.output_rows = {27, 0};
    b.rig.run(feed, b.x);
    b.rig.run(feed, b.pooled);
  }
  check(accepted > 100, "few changed instructions were accepted: " + std::to_string(accepted));
}

}  // namespace
}  // namespace overclock::testing
