// What a request has said so far, and what that changes in the next token's logits.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace overclock {

// Changes of single logits, in place; keeps the first value of each if it is asked to.
class Edits {
 public:
  Edits(float* row, bool keep) : row_(row), keep_(keep) {}

  float operator[](int32_t token) const { return row_[token]; }
  // Values too large for f32 become its largest: only the model can be at fault for an infinity.
  void set(int32_t token, double value);
  void ban(int32_t token);
  // What the model said, whatever has been changed.
  float raw(int32_t token) const;

 private:
  void remember(int32_t token) {
    if (keep_) before_.emplace_back(token, row_[token]);
  }

  float* row_;
  bool keep_;
  std::vector<std::pair<int32_t, float>> before_;
};

struct PenaltyRules {
  double repetition =
      1;                // of the prompt's tokens and the answer's: divides above 0, else multiplies
  double presence = 0;  // of the answer's tokens: subtracted once
  double frequency = 0;  // and once for every time it came
};

// How often each token has come.
class Counts {
 public:
  Counts(const PenaltyRules& rules, int vocabulary, const std::vector<int32_t>& prompt);
  void push(int32_t token);
  void penalize(Edits& edits) const;

 private:
  struct Seen {
    int32_t token;
    int32_t times;  // in the answer
  };
  Seen& seen(int32_t token);

  PenaltyRules rules_;
  std::vector<int32_t> places_;  // 1 + the place in seen_ of each token, 0 for those not seen
  std::vector<Seen> seen_;
};

struct DryRules {
  double multiplier = 0;  // 0: off
  double base = 1.75;
  int allowed_length = 2;
  int range = INT32_MAX;          // how many of the last tokens are looked at
  std::vector<int32_t> breakers;  // no repetition is longer than since the last of these
};

// "Don't repeat yourself": a token that would continue a repetition of n tokens loses
// multiplier · base^(n - allowed_length).
class Dry {
 public:
  Dry(const DryRules& rules, const std::vector<int32_t>& prompt);
  void push(int32_t token) { tokens_.push_back(token); }
  void penalize(Edits& edits);

 private:
  bool breaks(int32_t token) const;
  // For each i: how many tokens before the last i are the same as the last ones.
  void find_repetitions(int count);

  DryRules rules_;
  std::vector<int32_t> tokens_;
  std::vector<int> lengths_;
  std::vector<std::pair<int32_t, int>> found_;  // a next token, the repetition's length
};

}  // namespace overclock
