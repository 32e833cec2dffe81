// overclock._native: the machine and the probes for Python. Only machine/native.py imports it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "core/machine.h"
#include "core/pack.h"
#include "core/sampler.h"
#include "core/tiers.h"
#include "probe/probe.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace overclock {
namespace {

using Bytes2 = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Operands = std::map<std::string, std::vector<std::tuple<int, int, int>>>;

// Looks a word up in a list whose places are the values of an enumeration.
template <class Enum, size_t N>
Enum word(const char* const (&words)[N], const std::string& name) {
  for (size_t i = 0; i < N; ++i)
    if (name == words[i]) return static_cast<Enum>(i);
  throw std::invalid_argument("the native machine does not know '" + name + "'");
}

constexpr const char* kOps[] = {"embed",  "add",          "rmsnorm",    "layernorm", "quantize",
                                "matmul", "gated_matmul", "adapt",      "activate",  "gate",
                                "rope",   "store",        "rope_store", "attend",    "attend_all",
                                "select", "pool",         "normalize"};
constexpr const char* kFormats[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
                                    "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "I8"};
constexpr const char* kActivations[] = {"none", "silu", "gelu", "gelu_tanh", "relu", "tanh"};
constexpr const char* kStyles[] = {"halves", "interleaved"};
constexpr const char* kMethods[] = {"mean", "first"};
constexpr const char* kKvFormats[] = {"f32", "f16", "i8"};
constexpr const char* kKinds[] = {"input", "weight", "vector", "activation", "cache"};
constexpr const char* kRows[] = {"", "T", "L", "S"};
constexpr const char* kElements[] = {"f32", "i8", "i8x2"};
constexpr const char* kRoles[] = {
    "x", "w", "b", "bias",        "residual", "gate",   "up",    "ids", "table",    "a",
    "q", "k", "v", "frequencies", "q_norm",   "k_norm", "cache", "y",   "quantized"};

Buffer make_buffer(const std::string& kind, const std::string& rows, const std::string& element,
                   int columns, int index) {
  return {word<Kind>(kKinds, kind), word<Rows>(kRows, rows), word<Element>(kElements, element),
          columns, index};
}

void add_instruction(Machine& machine, const std::string& op, const Operands& operands,
                     const nb::dict& attributes, const std::vector<float>& frequencies) {
  Instruction instruction{};
  instruction.op = word<Op>(kOps, op);
  for (const auto& [role, list] : operands)
    for (const auto& [buffer, start, columns] : list)
      instruction.operands[static_cast<size_t>(word<Role>(kRoles, role))].push_back(
          {buffer, start, columns});
  for (const auto& [key, value] : attributes) {
    const std::string name = nb::cast<std::string>(key);
    if (name == "activation")
      instruction.activation = word<Activation>(kActivations, nb::cast<std::string>(value));
    else if (name == "style")
      instruction.style = word<RopeStyle>(kStyles, nb::cast<std::string>(value));
    else if (name == "method")
      instruction.method = word<PoolMethod>(kMethods, nb::cast<std::string>(value));
    else if (name == "epsilon")
      instruction.epsilon = nb::cast<float>(value);
    else if (name == "scale")
      instruction.scale = nb::cast<float>(value);
    else if (name == "heads")
      instruction.heads = nb::cast<int>(value);
    else if (name == "kv_heads")
      instruction.kv_heads = nb::cast<int>(value);
    else if (name == "window")
      instruction.window = nb::cast<int>(value);
    else if (name == "offset")
      instruction.offset = nb::cast<int>(value);
    else if (name == "site")
      instruction.site = nb::cast<int>(value);
    else
      throw std::invalid_argument("the native machine does not know the attribute " + name);
  }
  machine.add_instruction(std::move(instruction), frequencies);
}

void check_starts(const Ints& starts, size_t tokens) {
  bool good = starts.shape(0) >= 2 && starts(0) == 0 &&
              static_cast<size_t>(starts(starts.shape(0) - 1)) == tokens;
  for (size_t s = 0; good && s + 1 < starts.shape(0); ++s) good = starts(s) < starts(s + 1);
  if (!good) throw std::invalid_argument("starts must rise from 0 to the number of tokens");
}

Batch make_batch(const Ints& token_ids, const Ints& starts, const Ints& contexts,
                 const Table& pages, const Ints& output_rows, const std::optional<Ints>& types,
                 const std::optional<Ints>& adapters) {
  check_starts(starts, token_ids.shape(0));
  const size_t sequences = starts.shape(0) - 1;
  if (contexts.shape(0) != sequences || pages.shape(0) != sequences)
    throw std::invalid_argument("contexts and pages must have one entry for each sequence");
  if (types && types->shape(0) != token_ids.shape(0))
    throw std::invalid_argument("token_types must have one entry for each token");
  if (adapters && adapters->shape(0) != sequences)
    throw std::invalid_argument("adapters must have one entry for each sequence");
  Batch batch;
  batch.tokens = static_cast<int>(token_ids.shape(0));
  batch.sequences = static_cast<int>(sequences);
  batch.selected = static_cast<int>(output_rows.shape(0));
  batch.page_columns = static_cast<int>(pages.shape(1));
  batch.token_ids = token_ids.data();
  batch.starts = starts.data();
  batch.contexts = contexts.data();
  batch.pages = pages.data();
  batch.output_rows = output_rows.data();
  batch.token_types = types ? types->data() : nullptr;
  batch.adapters = adapters ? adapters->data() : nullptr;
  batch.positions.resize(token_ids.shape(0));
  batch.sequence_of.resize(token_ids.shape(0));
  for (int s = 0; s < batch.sequences; ++s)
    for (int row = batch.starts[s]; row < batch.starts[s + 1]; ++row) {
      batch.positions[static_cast<size_t>(row)] =
          static_cast<int32_t>(int64_t{batch.contexts[s]} + row - batch.starts[s]);
      batch.sequence_of[static_cast<size_t>(row)] = s;
    }
  return batch;
}

using Result = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

// Room for an array that Python will own; `data` is where it begins.
Result new_result(Machine& machine, size_t rows, size_t columns, float*& data) {
  using Shared = std::shared_ptr<Memory>;
  auto memory = std::make_unique<Shared>(machine.take_result(4 * rows * columns));
  data = reinterpret_cast<float*>((*memory)->data());
  nb::capsule owner(memory.get(), [](void* p) noexcept { delete static_cast<Shared*>(p); });
  (void)memory.release();
  return {data, {rows, columns}, owner};
}

Result run(Machine& machine, const Ints& token_ids, const Ints& starts, const Ints& contexts,
           const Table& pages, const Ints& output_rows, const std::optional<Ints>& types,
           const std::optional<Ints>& adapters, int output) {
  const Batch batch = make_batch(token_ids, starts, contexts, pages, output_rows, types, adapters);
  float* data = nullptr;
  Result result = new_result(machine, static_cast<size_t>(machine.output_rows(batch, output)),
                             static_cast<size_t>(machine.output_columns(output)), data);
  {
    nb::gil_scoped_release released;
    machine.run(batch, output, data);
  }
  return result;
}

// The same, and the rows of each (instruction, buffer) once that instruction has run.
nb::tuple run_tapped(Machine& machine, const Ints& token_ids, const Ints& starts,
                     const Ints& contexts, const Table& pages, const Ints& output_rows,
                     const std::optional<Ints>& types, const std::optional<Ints>& adapters,
                     int output, const std::vector<std::pair<int, int>>& wanted) {
  const Batch batch = make_batch(token_ids, starts, contexts, pages, output_rows, types, adapters);
  float* data = nullptr;
  Result result = new_result(machine, static_cast<size_t>(machine.output_rows(batch, output)),
                             static_cast<size_t>(machine.output_columns(output)), data);
  std::vector<Tap> taps;
  std::vector<float*> targets;
  std::vector<Result> tapped;
  for (const auto& [instruction, buffer] : wanted) {
    const Tap tap{instruction, buffer};
    const auto rows = static_cast<size_t>(machine.tap_rows(batch, tap));
    const auto columns = static_cast<size_t>(machine.tap_columns(tap));
    taps.push_back(tap);
    tapped.push_back(new_result(machine, rows, columns, targets.emplace_back()));
  }
  {
    nb::gil_scoped_release released;
    machine.run(batch, output, data, taps, targets);
  }
  return nb::make_tuple(result, tapped);
}

// Runs, whole, prepare, turn, finish, and f64[1 + threads, instructions]: wall time, then
// each watched thread's. A tuple and one array, as it is asked for after every tick that is traced.
nb::tuple take_account(Machine& machine) {
  const Account account = machine.take_account();
  const size_t columns = account.seconds.size();
  const size_t rows = columns ? 1 + account.busy.size() / columns : 1;
  auto* values = new double[rows * columns + 1];
  nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  std::copy(account.busy.begin(), account.busy.end(),
            std::copy(account.seconds.begin(), account.seconds.end(), values));
  const nb::ndarray<nb::numpy, double, nb::ndim<2>> times(values, {rows, columns}, owner);
  return nb::make_tuple(account.runs, account.whole, account.prepare, account.turn, account.finish,
                        times);
}

// For each adapter its changes: site, scale, A [rank, in] and B [out, rank].
using Changes = std::vector<std::tuple<int, float, Floats, Floats>>;

void set_adapters(Machine& machine, const std::vector<Changes>& adapters) {
  std::vector<std::vector<Change>> given;
  for (const Changes& changes : adapters) {
    std::vector<Change>& to = given.emplace_back();
    for (const auto& [site, scale, a, b] : changes) {
      if (a.shape(0) != b.shape(1))
        throw std::invalid_argument("the matrices of an adapter differ in rank");
      for (size_t size : {a.shape(0), a.shape(1), b.shape(0)})
        if (size > kMostColumns) throw std::invalid_argument("a matrix of an adapter is too large");
      to.push_back({site, static_cast<int>(a.shape(0)), static_cast<int>(a.shape(1)),
                    static_cast<int>(b.shape(0)), scale, a.data(), b.data()});
    }
  }
  nb::gil_scoped_release released;
  machine.set_adapters(given);
}

void copy_pages(Machine& machine, const Ints& sources, const Ints& targets) {
  if (sources.shape(0) != targets.shape(0))
    throw std::invalid_argument("every KV page that is copied needs a target");
  nb::gil_scoped_release released;
  machine.copy_pages(sources.data(), targets.data(), sources.shape(0));
}

nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>> read_pages(Machine& machine, const Ints& pages) {
  const size_t count = pages.shape(0), bytes = machine.page_bytes();
  auto* data = new uint8_t[count * bytes + 1];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
  {
    nb::gil_scoped_release released;
    machine.read_pages(pages.data(), count, data);
  }
  return {data, {count, bytes}, owner};
}

void write_pages(Machine& machine, const Ints& pages, const Bytes2& data) {
  if (data.shape(0) != pages.shape(0) || data.shape(1) != machine.page_bytes())
    throw std::invalid_argument("the bytes are not those of as many KV pages");
  nb::gil_scoped_release released;
  machine.write_pages(pages.data(), pages.shape(0), data.data());
}

nb::ndarray<nb::numpy, float, nb::ndim<1>> weight_row(const Machine& machine, int weight, int row) {
  const Weight& from = machine.weights().at(static_cast<size_t>(weight));
  if (row < 0 || row >= from.rows) throw std::invalid_argument("the weight has no such row");
  auto* values = new float[static_cast<size_t>(from.columns)];
  nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  unpack_row(from, row, values);
  return {values, {static_cast<size_t>(from.columns)}, owner};
}

using Logits = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using LogitsRow = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ReadLogits = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logprobs = std::vector<std::pair<double, std::vector<std::pair<int, double>>>>;

Logprobs to_python(std::vector<TokenLogprobs> from) {
  Logprobs to;
  for (TokenLogprobs& each : from) to.emplace_back(each.logprob, std::move(each.top));
  return to;
}

int choose_one(Sampler& sampler, const LogitsRow& row, const std::optional<Mask>& mask) {
  const auto vocabulary = static_cast<size_t>(sampler.vocabulary());
  require(row.shape(0) == vocabulary, "the logits must have one entry for each token");
  require(!mask || mask->shape(0) == (vocabulary + 31) / 32,
          "the mask must have one bit for each token, in words of 32");
  nb::gil_scoped_release released;
  return sampler.choose(row.data(), mask ? mask->data() : nullptr);
}

nb::tuple choose_all(const std::vector<Sampler*>& samplers, const Logits& logits,
                     const Ints& first_rows, std::vector<std::vector<int32_t>> drafts,
                     Machine* machine) {
  require(first_rows.shape(0) == samplers.size() && drafts.size() == samplers.size(),
          "first_rows and drafts must have one entry for each sampler");
  require(logits.shape(0) <= INT32_MAX && logits.shape(1) <= INT32_MAX, "there are too many rows");
  std::vector<Turn> turns;
  for (size_t i = 0; i < samplers.size(); ++i) {
    require(samplers[i] != nullptr, "a sampler cannot be None");
    turns.push_back({samplers[i], first_rows(i), std::move(drafts[i])});
  }
  {
    nb::gil_scoped_release released;
    choose(turns, logits.data(), static_cast<int>(logits.shape(0)),
           static_cast<int>(logits.shape(1)), machine);
  }
  std::vector<std::vector<int32_t>> chosen;
  std::vector<std::optional<std::string>> errors;
  for (Turn& turn : turns) {
    chosen.push_back(std::move(turn.chosen));
    errors.push_back(turn.error.empty() ? std::nullopt : std::optional(std::move(turn.error)));
  }
  return nb::make_tuple(chosen, errors);
}

Logprobs row_logprobs(const ReadLogits& rows, const Ints& targets, int top) {
  require(rows.shape(0) == targets.shape(0), "there must be one target for each row");
  require(rows.shape(1) >= 1 && rows.shape(1) <= kMostMatrixSide,
          "a vocabulary has 1 to 2^28 tokens");
  require(top >= 0, "top must be 0 or more");
  const std::vector<int32_t> ids(targets.data(), targets.data() + targets.shape(0));
  nb::gil_scoped_release released;
  return to_python(
      logprobs_of(kernels_of("").logits, rows.data(), static_cast<int>(rows.shape(1)), ids, top));
}

}  // namespace
}  // namespace overclock

NB_MODULE(_native, m) {
  using namespace overclock;
  // What a script still holds when the interpreter ends is no leak; tests watch memory itself.
  nb::set_leak_warnings(false);
  nb::class_<Machine>(m, "Machine")
      .def(
          "__init__",
          [](Machine* self, int threads, const std::string& kv, const std::string& tier) {
            if (threads < 1 || threads > 1024)
              throw std::invalid_argument("threads must be 1 to 1024");
            new (self) Machine(threads, word<KvFormat>(kKvFormats, kv), tier);
          },
          "threads"_a, "kv"_a, "tier"_a = "")
      .def(
          "add_weight",
          [](Machine& self, const std::string& source_format, int rows, int columns,
             const Bytes& data, bool mapped, const std::string& format) {
            const Source source{word<Format>(kFormats, source_format),
                                rows,
                                columns,
                                data.data(),
                                data.shape(0),
                                mapped};
            const Format held = word<Format>(kFormats, format);
            nb::gil_scoped_release released;
            return self.add_weight(source, held);
          },
          "source_format"_a, "rows"_a, "columns"_a, "data"_a, "mapped"_a, "format"_a)
      .def(
          "add_table",
          [](Machine& self, const std::string& format, int rows, int columns, const Bytes& data) {
            return self.add_table(
                {word<Format>(kFormats, format), rows, columns, data.data(), data.shape(0), false});
          },
          "format"_a, "rows"_a, "columns"_a, "data"_a, nb::keep_alive<1, 5>())
      .def("add_vector", &Machine::add_vector, "values"_a)
      .def("add_cache", &Machine::add_cache, "heads"_a, "head_dim"_a, "pages"_a)
      .def("set_context", &Machine::set_context, "tokens"_a)
      .def("add_slot", &Machine::add_slot)
      .def(
          "add_buffer",
          [](Machine& self, const std::string& kind, const std::string& rows,
             const std::string& element, int columns, int index) {
            return self.add_buffer(make_buffer(kind, rows, element, columns, index));
          },
          "kind"_a, "rows"_a, "element"_a, "columns"_a, "index"_a)
      .def("add_instruction", &add_instruction, "op"_a, "operands"_a, "attributes"_a,
           "frequencies"_a)
      .def("add_output", &Machine::add_output, "buffer"_a, "instructions"_a)
      .def("run", &run, "token_ids"_a.noconvert(), "starts"_a.noconvert(), "contexts"_a.noconvert(),
           "pages"_a.noconvert(), "output_rows"_a.noconvert(), "token_types"_a.none().noconvert(),
           "adapters"_a.none().noconvert(), "output"_a)
      .def("run_tapped", &run_tapped, "token_ids"_a.noconvert(), "starts"_a.noconvert(),
           "contexts"_a.noconvert(), "pages"_a.noconvert(), "output_rows"_a.noconvert(),
           "token_types"_a.none().noconvert(), "adapters"_a.none().noconvert(), "output"_a,
           "taps"_a)
      .def("set_adapters", &set_adapters, "adapters"_a)
      .def("copy_pages", &copy_pages, "sources"_a, "targets"_a)
      .def("read_pages", &read_pages, "pages"_a)
      .def("write_pages", &write_pages, "pages"_a, "data"_a)
      .def_prop_ro("page_bytes", &Machine::page_bytes)
      .def("watch", &Machine::watch, "threads"_a)
      .def("take_account", &take_account)
      .def("weight_row", &weight_row, "weight"_a, "row"_a)
      .def_prop_ro("tier", &Machine::tier)
      .def_prop_ro("threads", &Machine::threads)
      .def_prop_ro("weight_bytes", &Machine::weight_bytes);

  nb::class_<Sampler>(m, "Sampler")
      .def(
          "__init__",
          [](Sampler* self, int vocabulary, const std::vector<int32_t>& prompt, double temperature,
             std::optional<int> top_k, double typical_p, double top_p, double min_p,
             double repetition_penalty, double presence_penalty, double frequency_penalty,
             double dry_multiplier, double dry_base, int dry_allowed_length,
             std::optional<int> dry_range, std::vector<int32_t> dry_breakers,
             std::vector<std::pair<int32_t, double>> logit_bias, int64_t min_tokens,
             std::vector<int32_t> banned, uint64_t seed, std::optional<int> logprobs) {
            new (self)
                Sampler({.draw = {temperature, top_k, typical_p, top_p, min_p},
                         .penalties = {repetition_penalty, presence_penalty, frequency_penalty},
                         .dry = {dry_multiplier, dry_base, dry_allowed_length,
                                 dry_range.value_or(INT32_MAX), std::move(dry_breakers)},
                         .biases = std::move(logit_bias),
                         .min_tokens = min_tokens,
                         .banned = std::move(banned),
                         .seed = seed,
                         .logprobs = logprobs},
                        vocabulary, prompt, kernels_of(""));
          },
          "vocabulary"_a, "prompt"_a, nb::kw_only(), "temperature"_a, "top_k"_a.none(),
          "typical_p"_a, "top_p"_a, "min_p"_a, "repetition_penalty"_a, "presence_penalty"_a,
          "frequency_penalty"_a, "dry_multiplier"_a, "dry_base"_a, "dry_allowed_length"_a,
          "dry_range"_a.none(), "dry_breakers"_a, "logit_bias"_a, "min_tokens"_a, "banned"_a,
          "seed"_a, "logprobs"_a.none())
      .def("choose_one", &choose_one, "logits"_a.noconvert(),
           "mask"_a.noconvert().none() = nb::none())
      .def("take_logprobs", [](Sampler& self) { return to_python(self.take_logprobs()); })
      .def_prop_ro("vocabulary", &Sampler::vocabulary)
      .def_prop_ro("count", &Sampler::count);
  m.def("choose", &choose_all, "samplers"_a, "logits"_a.noconvert(), "first_rows"_a.noconvert(),
        "drafts"_a, "machine"_a.none());
  m.def("logprobs", &row_logprobs, "rows"_a.noconvert(), "targets"_a.noconvert(), "top"_a);

  m.def("tiers", &tiers);
  m.def("probe_read_bandwidth", &probe::read_bandwidth, "threads"_a, "bytes"_a, "seconds"_a,
        nb::call_guard<nb::gil_scoped_release>());
  m.def("probe_peak_f32", &probe::peak_f32, "threads"_a, "seconds"_a,
        nb::call_guard<nb::gil_scoped_release>());
  m.def("probe_peak_int8", &probe::peak_int8, "threads"_a, "seconds"_a,
        nb::call_guard<nb::gil_scoped_release>());
  m.def("probe_timer", &probe::timer_resolution_ns);
  m.def("instruction_sets", &probe::instruction_sets);
}
