// The choice of tokens from their logits: all rules of one request, and many requests at once.
#pragma once

#include <memory>
#include <string>

#include "core/draw.h"
#include "core/frame.h"
#include "core/history.h"

namespace overclock {

class Machine;

struct SamplerRules {
  DrawRules draw;
  PenaltyRules penalties;
  DryRules dry;
  std::vector<std::pair<int32_t, double>> biases;
  int64_t min_tokens = 0;       // until there are so many,
  std::vector<int32_t> banned;  // these cannot come
  uint64_t seed = 0;
  std::optional<int> logprobs;  // note the logprob of each token, and the top so many
};

// The count-th number of a seed's sequence, in [0, 1): splitmix64 (Steele, Lea, Flood 2014).
double uniform(uint64_t seed, uint64_t count);

// Chooses the tokens of one request, one after the other. Biases and bans come first, then the
// penalties (repetition, presence and frequency, DRY), then the draw.
class Sampler {
 public:
  // Throws std::invalid_argument for a token that the vocabulary does not have.
  Sampler(SamplerRules rules, int vocabulary, const std::vector<int32_t>& prompt,
          const Kernels& kernels);

  // The next token for its logits, f32[vocabulary], which are changed. A mask, u32[(vocabulary +
  // 31) / 32], has a bit for each token that is allowed. Throws std::domain_error, and has then
  // chosen nothing, if the logits are not finite numbers or leave no token.
  int choose(float* logits, const uint32_t* mask = nullptr);

  int vocabulary() const { return vocabulary_; }
  int64_t count() const { return count_; }  // tokens chosen
  // Those of the tokens chosen since the last call; none if they were not asked for.
  std::vector<TokenLogprobs> take_logprobs();

 private:
  bool edits_rows() const;
  void edit(Edits& edits);
  void push(int token);

  const SamplerRules rules_;
  const int vocabulary_;
  LogitRow row_;
  Draw draw_;
  std::unique_ptr<Counts> counts_;
  std::unique_ptr<Dry> dry_;
  int64_t count_ = 0;
  std::vector<TokenLogprobs> logprobs_;
};

// A sampler's part of a batch: it chooses from the row `first`, and goes on with the next row as
// long as it chooses what the draft has there.
struct Turn {
  Sampler* sampler;
  int first;
  std::vector<int32_t> draft;
  std::vector<int32_t> chosen = {};
  std::string error = {};  // why there is no further token
};

// Takes all turns, on the machine's threads if one is given. logits: f32[rows, columns], changed.
// Throws std::invalid_argument if rows or samplers of different turns are the same, or do not fit.
void choose(std::vector<Turn>& turns, float* logits, int rows, int columns, Machine* machine);

}  // namespace overclock
