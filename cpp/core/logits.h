// A row of logits, f32[V]: its best tokens, its logarithm of probabilities.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace overclock {

// Rows are looked through in blocks of this many tokens, the last one filled up with -inf. A block
// whose largest logit (its peak) is out of question is not looked at again.
inline constexpr int kLogitBlock = 128;
inline constexpr int kLimits = 8;

inline int logit_blocks(int tokens) { return (tokens + kLogitBlock - 1) / kLogitBlock; }

// How much a token weighs in a draw. Its score is (logit - best) / temperature, 0 or less, and its
// weight e^score if it is admitted: at least `least`, and within `radius` of `centre`.
struct Weighing {
  float best;
  float inverse;  // of the temperature
  float least;
  float centre;
  float radius;

  float score(float logit) const { return (logit - best) * inverse; }
  bool admits(float score) const { return score >= least && off(score, centre) <= radius; }
  // Whether a block can hold a token that is admitted and no further than `reach` from `around`.
  bool may_admit(float peak, float around, float reach) const {
    const float top = score(peak);
    return top >= least && (top >= centre || centre - top <= radius) &&
           (top >= around || around - top <= reach);
  }
  static float off(float score, float from) { return score < from ? from - score : score - from; }
};

struct Candidate {
  float off;  // how far its score is from where one looks
  float weight;
};

// What every tier does with a row; see kernels/logits.h. `peaks`: f32[blocks].
struct LogitKernels {
  // Writes the peaks; false if a logit is not a number.
  bool (*peaks)(const float* row, int tokens, float* peaks);
  // Tokens with logits of at least `limit`, in order; returns how many there are, which may be
  // more than the `room` that `ids` has.
  int (*above)(const float* row, int tokens, const float* peaks, float limit, int32_t* ids,
               int room);
  // The sum of weights of every block, and of weight times score if `moments` is not null.
  void (*weigh)(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                float* sums, float* moments);
  // The weights of up to kLogitBlock logits.
  void (*weights)(const float* logits, int tokens, const Weighing& weighing, float* weights);
  // For each of kLimits rising limits: the weight of all tokens within the limit of `around`.
  void (*masses)(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                 float around, const float* limits, double* masses);
  // Tokens more than `inner` and at most `outer` from `around`; returns how many there are, or any
  // number above `room`.
  int (*between)(const float* row, int tokens, const float* peaks, const Weighing& weighing,
                 float around, float inner, float outer, Candidate* found, int room);
  // Forbids (-inf) every token whose bit is not set: bit t % 32 of word t / 32.
  void (*forbid)(float* row, int tokens, const uint32_t* allowed);
};

// The logarithm of a token's probability, and the tokens that have the highest, best first.
struct TokenLogprobs {
  double logprob;
  std::vector<std::pair<int, double>> top;
};

// A measured row. Nothing is copied: the row must stay as it is while it is used.
class LogitRow {
 public:
  explicit LogitRow(const LogitKernels& kernels) : kernels_(&kernels) {}

  // Throws std::domain_error if a logit is NaN or infinite, or if all are -inf.
  void measure(const float* row, int tokens);

  const LogitKernels& kernels() const { return *kernels_; }
  const float* data() const { return row_; }
  const float* peaks() const { return peaks_.data(); }
  int tokens() const { return tokens_; }
  int blocks() const { return logit_blocks(tokens_); }
  float best() const { return best_; }

  // The first token that has the best logit.
  int likeliest() const;
  // The logit that `rank` tokens reach, 1 <= rank <= tokens.
  float ranked(int rank);
  // The logarithm of the sum of e^(logit - best).
  double log_total();
  // Adds the tokens that have the highest logits, best first and equal ones in order.
  void add_top(int count, double log_total, TokenLogprobs& to);
  double logprob(float logit, double log_total) const { return logit - double(best_) - log_total; }

 private:
  // Tokens with at least this logit, in ids_; how many.
  int find_above(float limit);
  // At least the `rank` tokens that have the highest logits, in ids_; how many.
  int find_highest(int rank);
  // A logit that at least `rank` tokens reach, or very likely do.
  float bound_of(int rank);

  const LogitKernels* kernels_;
  const float* row_ = nullptr;
  int tokens_ = 0;
  float best_ = 0;
  std::vector<float> peaks_;
  std::vector<float> values_;
  std::vector<int32_t> ids_;
};

// Of every row's target, with the `top` likeliest tokens. rows: f32[targets, tokens]. Throws
// std::invalid_argument for a target that is no token, std::domain_error for a bad row.
std::vector<TokenLogprobs> logprobs_of(const LogitKernels& kernels, const float* rows, int tokens,
                                       const std::vector<int32_t>& targets, int top);

}  // namespace overclock
