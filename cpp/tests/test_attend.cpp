// Rotation, KV pages and attention: values, and that pieces, company, pages and threads change no
// bit of them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/rig.h"
#include "tests/wanted.h"

namespace overclock::testing {
namespace {

constexpr int kPages = 48;

// What sequences bring in one run: (sequence, tokens).
using Tick = std::vector<std::pair<int, int>>;

struct Attention {
  int heads = 1;
  int kv_heads = 1;
  int width = 8;
  int window = 0;
  KvFormat kv = KvFormat::F32;
  std::vector<int> lengths{};
  bool int8_out = false;

  int tokens() const { return std::accumulate(lengths.begin(), lengths.end(), 0); }
  int first(int sequence) const {
    return std::accumulate(lengths.begin(), lengths.begin() + sequence, 0);
  }
  std::string name() const {
    return "attention of " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " heads x " +
           std::to_string(width) + " window " + std::to_string(window) + " kv " +
           std::to_string(static_cast<int>(kv));
  }
};

// Row `first(s) + i` belongs to position i of sequence s.
struct Given {
  Matrix q, k, v;
};

Given random_given(Random& random, const Attention& shape) {
  return {random_matrix(random, shape.tokens(), shape.heads * shape.width),
          random_matrix(random, shape.tokens(), shape.kv_heads * shape.width),
          random_matrix(random, shape.tokens(), shape.kv_heads * shape.width)};
}

// As KV pages hold it: each head of a token by itself.
Matrix through_cache(const Matrix& x, const Attention& shape) {
  Matrix out = x;
  for (int row = 0; row < x.rows; ++row)
    for (int first = 0; first < x.columns; first += shape.width) {
      float most = 0;
      for (int i = 0; i < shape.width; ++i) most = std::max(most, std::fabs(x.at(row, first + i)));
      for (int i = 0; i < shape.width; ++i) {
        float& value = out.at(row, first + i);
        if (shape.kv == KvFormat::F16) value = static_cast<float>(half_value(nearest_half(value)));
        if (shape.kv == KvFormat::I8) value = std::nearbyint(value * (127 / most)) * (most / 127);
      }
    }
  return out;
}

// One head of one query over positions `begin` to `end` of the rows from `first` on.
void attend_one(const Attention& shape, const Given& given, int row, int head, int first, int begin,
                int end, float scale, float* out) {
  const int kv = head / (shape.heads / shape.kv_heads) * shape.width;
  std::vector<double> weights(size_t(end - begin));
  double most = -1e300;
  for (int j = begin; j < end; ++j) {
    double score = 0;
    for (int i = 0; i < shape.width; ++i)
      score += double(given.q.at(row, head * shape.width + i)) * given.k.at(first + j, kv + i);
    weights[size_t(j - begin)] = scale * score;
    most = std::max(most, scale * score);
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - most);
  for (int i = 0; i < shape.width; ++i) {
    double value = 0;
    for (int j = begin; j < end; ++j)
      value += weights[size_t(j - begin)] * given.v.at(first + j, kv + i);
    out[i] = static_cast<float>(value / sum);
  }
}

Matrix wanted_of(const Attention& shape, const Given& given, float scale, bool causal) {
  Given seen = given;
  if (causal) seen = {given.q, through_cache(given.k, shape), through_cache(given.v, shape)};
  Matrix wanted = zeros(shape.tokens(), shape.heads * shape.width);
  for (int s = 0; s < static_cast<int>(shape.lengths.size()); ++s)
    for (int t = 0; t < shape.lengths[size_t(s)]; ++t)
      for (int head = 0; head < shape.heads; ++head) {
        const int end = causal ? t + 1 : shape.lengths[size_t(s)];
        const int begin = shape.window > 0 ? std::max(0, end - shape.window) : 0;
        const int row = shape.first(s) + t;
        attend_one(shape, seen, row, head, shape.first(s), begin, end, scale,
                   &wanted.at(row, head * shape.width));
      }
  return wanted;
}

float scale_of(const Attention& shape) { return 2.0f / std::sqrt(static_cast<float>(shape.width)); }

// A machine that stores K and V and attends, fed tick by tick.
class Feeder {
 public:
  Feeder(const std::string& tier, int threads, const Attention& shape, const Given& given,
         Random& random)
      : shape_(shape), rig_(tier, threads, shape.kv), done_(shape.lengths.size()) {
    const Operand q = rig_.given(given.q);
    const Operand cache = rig_.cache(shape.kv_heads, shape.width, kPages);
    rig_.add(Op::Store, {{Role::K, {rig_.given(given.k)}},
                         {Role::V, {rig_.given(given.v)}},
                         {Role::Cache, {cache}}});
    const Element element = shape.int8_out ? Element::I8 : Element::F32;
    Operand y = rig_.activation(q.columns, Rows::Tokens, element);
    Instruction attend = make(Op::Attend, {{Role::Q, {q}}, {Role::Cache, {cache}}, {Role::Y, {y}}});
    attend.heads = shape.heads;
    attend.kv_heads = shape.kv_heads;
    attend.scale = scale_of(shape);
    attend.window = shape.window;
    rig_.add(attend);
    y_ = shape.int8_out ? rig_.dequantized(y) : y;
    free_.resize(kPages);
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), random);
  }

  Matrix run(const std::vector<Tick>& ticks) {
    Matrix all = zeros(shape_.tokens(), shape_.heads * shape_.width);
    for (const Tick& tick : ticks) {
      const Feed feed = feed_of(tick);
      const Matrix part = rig_.run(feed, y_);
      const float* from = part.values.data();
      for (const auto& [sequence, count] : tick) {
        const int first = shape_.first(sequence) + done_[size_t(sequence)];
        std::copy(from, from + count * all.columns, &all.at(first, 0));
        from += count * all.columns;
        done_[size_t(sequence)] += count;
      }
    }
    return all;
  }

 private:
  Feed feed_of(const Tick& tick) const {
    Feed feed;
    feed.page_columns = 20;
    for (const auto& [sequence, count] : tick) {
      feed.lengths.push_back(count);
      feed.contexts.push_back(done_[size_t(sequence)]);
      feed.first_ids.push_back(shape_.first(sequence) + done_[size_t(sequence)]);
      int before = 0;
      for (int s = 0; s < sequence; ++s) before += (shape_.lengths[size_t(s)] + 31) / 32;
      const int pages = (shape_.lengths[size_t(sequence)] + 31) / 32;
      for (int page = 0; page < feed.page_columns; ++page)
        feed.pages.push_back(page < pages ? free_[size_t(before + page)] : -7);
    }
    return feed;
  }

  const Attention shape_;
  Rig rig_;
  Operand y_{};
  std::vector<int> done_;
  std::vector<int> free_;
};

// All at once; each sequence alone in pieces; single tokens at the end; all in turn.
std::vector<std::vector<Tick>> schedules(const std::vector<int>& lengths) {
  const int count = static_cast<int>(lengths.size());
  std::vector<std::vector<Tick>> made(4);
  made[0].resize(1);
  for (int s = 0; s < count; ++s) {
    const int length = lengths[size_t(s)];
    made[0][0].push_back({s, length});
    const int half = length / 2;
    if (half > 0) made[1].push_back({{s, half}});
    made[1].push_back({{s, length - half}});
    const int singles = std::min(3, length - 1);
    made[2].push_back({{s, length - singles}});
    for (int i = 0; i < singles; ++i) made[2].push_back({{s, 1}});
  }
  for (int done = 0; done < *std::max_element(lengths.begin(), lengths.end()); done += 37) {
    made[3].emplace_back();
    for (int s = count - 1; s >= 0; --s)
      if (done < lengths[size_t(s)])
        made[3].back().push_back({s, std::min(37, lengths[size_t(s)] - done)});
  }
  return made;
}

void check_attention(const std::string& tier, Random& random, const Attention& shape) {
  const Given given = random_given(random, shape);
  const auto ticks = schedules(shape.lengths);
  const Matrix first = Feeder(tier, 1, shape, given, random).run(ticks[0]);
  const Matrix wanted = wanted_of(shape, given, scale_of(shape), true);
  check_near(
      first, [&](int row, int column) { return wanted.at(row, column); },
      [&](int row, int column) {
        return 5e-6 + (shape.int8_out ? 0.51 * step_of(wanted, row, column) : 0.0);
      },
      shape.name());
  for (int threads : {1, 2, 3})
    for (const auto& schedule : ticks)
      check_same_bits(Feeder(tier, threads, shape, given, random).run(schedule), first,
                      shape.name() + " with " + std::to_string(threads) + " threads");
}

KERNEL_TEST(attention_over_pages) {
  Random random(21);
  for (KvFormat kv : {KvFormat::F32, KvFormat::F16, KvFormat::I8}) {
    check_attention(tier, random,
                    {.heads = 4, .kv_heads = 2, .width = 64, .kv = kv, .lengths = {70, 1, 33}});
    check_attention(tier, random,
                    {.heads = 6, .kv_heads = 1, .width = 20, .kv = kv, .lengths = {40}});
    check_attention(
        tier, random,
        {.heads = 2, .kv_heads = 2, .width = 8, .window = 5, .kv = kv, .lengths = {31, 32, 65}});
    check_attention(tier, random,
                    {.heads = 24, .kv_heads = 1, .width = 16, .kv = kv, .lengths = {20}});
    check_attention(
        tier, random,
        {.heads = 3, .kv_heads = 3, .width = 96, .kv = kv, .lengths = {50}, .int8_out = true});
  }
}

KERNEL_TEST(attention_over_long_contexts) {
  Random random(22);
  for (KvFormat kv : {KvFormat::F32, KvFormat::F16, KvFormat::I8}) {
    check_attention(tier, random,
                    {.heads = 2, .kv_heads = 1, .width = 32, .kv = kv, .lengths = {530, 30}});
    check_attention(tier, random,
                    {.heads = 1,
                     .kv_heads = 1,
                     .width = 32,
                     .window = 100,
                     .kv = kv,
                     .lengths = {540},
                     .int8_out = true});
  }
}

Matrix run_all_to_all(const std::string& tier, int threads, const Attention& shape,
                      const Given& given, const std::vector<int>& chosen) {
  Rig rig(tier, threads);
  const Element element = shape.int8_out ? Element::I8 : Element::F32;
  const Operand y = rig.activation(given.q.columns, Rows::Tokens, element);
  Instruction attend = make(Op::AttendAll, {{Role::Q, {rig.given(given.q)}},
                                            {Role::K, {rig.given(given.k)}},
                                            {Role::V, {rig.given(given.v)}},
                                            {Role::Y, {y}}});
  attend.heads = shape.heads;
  attend.scale = scale_of(shape);
  rig.add(attend);
  Feed feed;
  for (int s : chosen) {
    feed.lengths.push_back(shape.lengths[size_t(s)]);
    feed.first_ids.push_back(shape.first(s));
  }
  return rig.run(feed, shape.int8_out ? rig.dequantized(y) : y);
}

KERNEL_TEST(attention_of_all_to_all) {
  Random random(23);
  for (int width : {8, 20, 32, 64, 96})
    for (bool int8_out : {false, true}) {
      if (int8_out && width % 32 != 0) continue;
      const Attention shape{.heads = 3,
                            .kv_heads = 3,
                            .width = width,
                            .lengths = {1, 31, 33, 300},
                            .int8_out = int8_out};
      const Given given = random_given(random, shape);
      const Matrix all = run_all_to_all(tier, 1, shape, given, {0, 1, 2, 3});
      const Matrix wanted = wanted_of(shape, given, scale_of(shape), false);
      check_near(
          all, [&](int row, int column) { return wanted.at(row, column); },
          [&](int row, int column) {
            return 5e-6 + (int8_out ? 0.51 * step_of(wanted, row, column) : 0.0);
          },
          "all to all, " + std::to_string(width) + " columns");
      for (int threads : {2, 3})
        check_same_bits(run_all_to_all(tier, threads, shape, given, {0, 1, 2, 3}), all,
                        "all to all with more threads");
      for (int s = 0; s < 4; ++s) {
        Matrix part = zeros(shape.lengths[size_t(s)], all.columns);
        std::copy_n(all.values.begin() + shape.first(s) * all.columns, part.values.size(),
                    part.values.begin());
        check_same_bits(run_all_to_all(tier, 2, shape, given, {s}), part, "all to all, alone");
      }
    }
}

std::vector<float> frequencies_of(int pairs) {
  std::vector<float> made;
  for (int i = 0; i < pairs; ++i) made.push_back(std::pow(100.0f, -static_cast<float>(i) / pairs));
  return made;
}

// Each head of x turned by its position.
Matrix turned(const Matrix& x, int width, int first_position, RopeStyle style) {
  const std::vector<float> frequencies = frequencies_of(width / 2);
  Matrix out = x;
  for (int row = 0; row < x.rows; ++row)
    for (int head = 0; head < x.columns; head += width)
      for (int i = 0; i < width / 2; ++i) {
        const bool halves = style == RopeStyle::Halves;
        const int a = head + (halves ? i : 2 * i);
        const int b = head + (halves ? i + width / 2 : 2 * i + 1);
        const float angle = static_cast<float>(first_position + row) * frequencies[size_t(i)];
        const double cosine = std::cos(double(angle));
        const double sine = std::sin(double(angle));
        out.at(row, a) = static_cast<float>(x.at(row, a) * cosine - x.at(row, b) * sine);
        out.at(row, b) = static_cast<float>(x.at(row, b) * cosine + x.at(row, a) * sine);
      }
  return out;
}

KERNEL_TEST(rotations) {
  Random random(24);
  for (RopeStyle style : {RopeStyle::Halves, RopeStyle::Interleaved})
    for (int width : {2, 16, 20, 64})
      for (bool in_place : {false, true}) {
        const Matrix x = random_matrix(random, 9, 3 * width);
        Rig rig(tier, 2);
        const Operand from = rig.given(x);
        const Operand y = in_place ? from : rig.activation(x.columns);
        const Operand table = rig.vector(frequencies_of(width / 2));
        Instruction rope =
            make(Op::Rope, {{Role::X, {from}}, {Role::Frequencies, {table}}, {Role::Y, {y}}});
        rope.heads = 3;
        rope.style = style;
        rig.add(rope, frequencies_of(width / 2));
        Feed feed = one_sequence(9);
        feed.contexts = {90};
        feed.page_columns = 4;
        feed.pages = {0, 1, 2, 3};
        rig.cache(1, 8, 4);  // only a program with KV pages has contexts
        const Matrix wanted = turned(x, width, 90, style);
        check_near(
            rig.run(feed, y), [&](int row, int k) { return wanted.at(row, k); }, 1e-6, "rope");
      }
}

Matrix normed(const Matrix& x, const std::vector<float>& w) {
  const int width = static_cast<int>(w.size());
  Matrix out = x;
  for (int row = 0; row < x.rows; ++row)
    for (int k = 0; k < x.columns; ++k)
      out.at(row, k) = static_cast<float>(
          rms_normed(x, row, k / width * width, width, k % width, 1e-6) * w[size_t(k % width)]);
  return out;
}

KERNEL_TEST(rotated_and_stored) {
  Random random(25);
  for (bool norms : {false, true})
    for (RopeStyle style : {RopeStyle::Halves, RopeStyle::Interleaved}) {
      const Attention shape{.heads = 4, .kv_heads = 2, .width = 24, .lengths = {45}};
      Given given = random_given(random, shape);
      const std::vector<float> q_norm = random_matrix(random, 1, 24).values;
      const std::vector<float> k_norm = random_matrix(random, 1, 24).values;
      Rig rig(tier, 3);
      const Operand q = rig.given(given.q);
      const Operand cache = rig.cache(2, 24, 4);
      Instruction both = make(Op::RopeStore, {{Role::Q, {q}},
                                              {Role::K, {rig.given(given.k)}},
                                              {Role::V, {rig.given(given.v)}},
                                              {Role::Frequencies, {rig.vector(frequencies_of(12))}},
                                              {Role::Y, {q}},
                                              {Role::Cache, {cache}}});
      if (norms) both.operands[size_t(Role::QNorm)] = {rig.vector(q_norm)};
      if (norms) both.operands[size_t(Role::KNorm)] = {rig.vector(k_norm)};
      both.heads = 4;
      both.kv_heads = 2;
      both.style = style;
      both.epsilon = 1e-6f;
      rig.add(both, frequencies_of(12));
      const Operand y = rig.activation(96);
      Instruction attend =
          make(Op::Attend, {{Role::Q, {q}}, {Role::Cache, {cache}}, {Role::Y, {y}}});
      attend.heads = 4;
      attend.kv_heads = 2;
      attend.scale = scale_of(shape);
      rig.add(attend);
      Feed feed = one_sequence(45);
      feed.page_columns = 2;
      feed.pages = {3, 1};
      if (norms) given = {normed(given.q, q_norm), normed(given.k, k_norm), given.v};
      given.q = turned(given.q, 24, 0, style);
      given.k = turned(given.k, 24, 0, style);
      check_near(
          rig.run(feed, q), [&](int row, int k) { return given.q.at(row, k); }, 4e-6,
          "rotated queries");
      const Matrix wanted = wanted_of(shape, given, scale_of(shape), true);
      check_near(
          rig.run(feed, y), [&](int row, int k) { return wanted.at(row, k); }, 2e-5,
          "attention to rotated keys");
    }
}

}  // namespace
}  // namespace overclock::testing
