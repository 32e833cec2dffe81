// A draw by chance from a row of logits: temperature, top-k, typical-p, top-p, min-p.
#pragma once

#include <optional>
#include <vector>

#include "core/logits.h"

namespace overclock {

// Each rule sees what the ones before it left. A token that ties with the last one admitted is
// admitted too, so that nothing depends on the order of a sort.
struct DrawRules {
  double temperature = 0;    // 0: always the likeliest
  std::optional<int> top_k;  // among this many of the likeliest
  double typical_p = 1;      // among those nearest to the mean information, up to this probability
  double top_p = 1;          // among the likeliest, up to this probability
  double min_p = 0;          // among those at least this many times as likely as the likeliest
};

class Draw {
 public:
  explicit Draw(const DrawRules& rules) : rules_(rules) {}

  // The token at `number`, 0 <= number < 1, of the running sum of probabilities.
  int choose(LogitRow& row, double number);

 private:
  void keep_typical();
  void keep_nucleus();
  void keep_likely();
  // How far from `around` admitted tokens must be taken in until they weigh `goal`.
  float reach(float around, double goal);
  // Too few tokens are within `inner`, enough within `outer`; `weight` and `enough` are theirs.
  struct Bracket {
    float inner, outer;
    double weight, enough;
  };
  float narrow(float around, double goal, Bracket bracket);
  // Takes the bracket to two neighbours among the limits that it lies in; false if none is enough.
  bool bracket_by(const float* limits, float around, double goal, Bracket& bracket);
  bool collect(float around, const Bracket& bracket);
  float last_of(double goal, double weight);
  float highest_score() const;
  double weigh(bool moments = false);
  int token_at(double goal);

  const DrawRules rules_;
  LogitRow* row_ = nullptr;
  Weighing weighing_{};
  std::vector<float> sums_;     // of each block
  std::vector<float> moments_;  // of each block
  std::vector<Candidate> candidates_;
};

}  // namespace overclock
