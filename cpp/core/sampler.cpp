#include "core/sampler.h"

#include <algorithm>
#include <exception>
#include <stdexcept>

#include "core/machine.h"

namespace overclock {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

uint64_t mix(uint64_t x) {
  x += kGolden;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

template <class Ids>
void check_ids(const Ids& ids, int vocabulary, const char* why) {
  for (int32_t id : ids) require(id >= 0 && id < vocabulary, why);
}

void check_rules(const SamplerRules& rules, int vocabulary, const std::vector<int32_t>& prompt) {
  require(vocabulary >= 1 && vocabulary <= kMostMatrixSide, "a vocabulary has 1 to 2^28 tokens");
  check_ids(prompt, vocabulary, "a token of the prompt is not in the vocabulary");
  check_ids(rules.banned, vocabulary, "a banned token is not in the vocabulary");
  for (const auto& bias : rules.biases)
    require(bias.first >= 0 && bias.first < vocabulary, "a biased token is not in the vocabulary");
  require(!rules.draw.top_k || *rules.draw.top_k >= 1, "top_k must be 1 or more");
}

}  // namespace

// The seed is mixed first, so that neighbouring seeds do not share their numbers.
double uniform(uint64_t seed, uint64_t count) {
  return static_cast<double>(mix(mix(seed) + count * kGolden) >> 11) * 0x1p-53;
}

Sampler::Sampler(SamplerRules rules, int vocabulary, const std::vector<int32_t>& prompt,
                 const Kernels& kernels)
    : rules_(std::move(rules)), vocabulary_(vocabulary), row_(kernels.logits), draw_(rules_.draw) {
  check_rules(rules_, vocabulary, prompt);
  const PenaltyRules& penalties = rules_.penalties;
  if (penalties.repetition != 1 || penalties.presence != 0 || penalties.frequency != 0)
    counts_ = std::make_unique<Counts>(penalties, vocabulary, prompt);
  if (rules_.dry.multiplier > 0) dry_ = std::make_unique<Dry>(rules_.dry, prompt);
}

bool Sampler::edits_rows() const {
  return !rules_.biases.empty() || count_ < rules_.min_tokens || counts_ || dry_;
}

void Sampler::edit(Edits& edits) {
  for (const auto& [token, bias] : rules_.biases) edits.set(token, edits[token] + bias);
  if (count_ < rules_.min_tokens)
    for (int32_t token : rules_.banned) edits.ban(token);
  if (counts_) counts_->penalize(edits);
  if (dry_) dry_->penalize(edits);
}

int Sampler::choose(float* logits, const uint32_t* mask) {
  TokenLogprobs logprobs{};
  double log_total = 0;
  float raw_best = 0;
  const bool edited = mask || edits_rows();
  if (rules_.logprobs || !edited) row_.measure(logits, vocabulary_);
  if (rules_.logprobs) {
    log_total = row_.log_total();
    raw_best = row_.best();
    row_.add_top(*rules_.logprobs, log_total, logprobs);
  }
  Edits edits(logits, rules_.logprobs.has_value());
  if (edited) {
    if (mask) row_.kernels().forbid(logits, vocabulary_, mask);
    edit(edits);
    row_.measure(logits, vocabulary_);
  }
  const int token = rules_.draw.temperature == 0
                        ? row_.likeliest()
                        : draw_.choose(row_, uniform(rules_.seed, uint64_t(count_)));
  if (rules_.logprobs) {
    logprobs.logprob = edits.raw(token) - double(raw_best) - log_total;
    logprobs_.push_back(std::move(logprobs));
  }
  push(token);
  return token;
}

void Sampler::push(int token) {
  if (counts_) counts_->push(token);
  if (dry_) dry_->push(token);
  ++count_;
}

std::vector<TokenLogprobs> Sampler::take_logprobs() { return std::exchange(logprobs_, {}); }

namespace {

void check_turns(const std::vector<Turn>& turns, int rows, int columns) {
  std::vector<bool> taken(static_cast<size_t>(rows));
  std::vector<Sampler*> samplers;
  for (const Turn& turn : turns) {
    require(turn.sampler->vocabulary() == columns, "a sampler has another vocabulary");
    samplers.push_back(turn.sampler);
    require(turn.first >= 0 && turn.first < rows &&
                turn.draft.size() < static_cast<size_t>(rows - turn.first),
            "a sampler's rows are outside of the logits");
    for (size_t i = 0; i <= turn.draft.size(); ++i) {
      const size_t row = static_cast<size_t>(turn.first) + i;
      require(!taken[row], "two samplers cannot have the same row; copy it first");
      taken[row] = true;
    }
  }
  std::sort(samplers.begin(), samplers.end());
  require(std::adjacent_find(samplers.begin(), samplers.end()) == samplers.end(),
          "a sampler can have only one turn");
}

void take_turn(Turn& turn, float* logits, int columns) {
  try {
    for (size_t i = 0; i <= turn.draft.size(); ++i) {
      const size_t row = static_cast<size_t>(turn.first) + i;
      turn.chosen.push_back(turn.sampler->choose(logits + row * size_t(columns)));
      if (i == turn.draft.size() || turn.chosen[i] != turn.draft[i]) return;
    }
  } catch (const std::exception& error) {  // the others go on
    turn.error = error.what();
  }
}

}  // namespace

void choose(std::vector<Turn>& turns, float* logits, int rows, int columns, Machine* machine) {
  check_turns(turns, rows, columns);
  const auto take = [&](int turn) { take_turn(turns[size_t(turn)], logits, columns); };
  const int count = static_cast<int>(turns.size());
  if (machine && count > 1)
    machine->share(count, take);
  else
    for (int turn = 0; turn < count; ++turn) take(turn);
}

}  // namespace overclock
