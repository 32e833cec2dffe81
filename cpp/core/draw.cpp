#include "core/draw.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

namespace overclock {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kRoom = 512;  // few enough to sort

// Where the weight is looked for first: a sharp row needs the first line, which leaves most of its
// blocks alone, a flat one the second. What is further off than the last weighs e^-60 or less.
constexpr float kSteps[][kLimits] = {{0.0f, 0.125f, 0.5f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f},
                                     {6.0f, 7.0f, 8.0f, 9.0f, 10.0f, 11.0f, 12.0f, 14.0f},
                                     {16.0f, 18.0f, 21.0f, 25.0f, 30.0f, 36.0f, 45.0f, 60.0f}};

constexpr double kFlat =
    50;  // so many tokens as likely as the best one weigh more than a sharp row

// Where around a guess the next limits are, in widths of the bracket; the last is its end.
constexpr float kAround[kLimits] = {-0.25f, -0.0625f, -0.015625f, 0.0f, 0.015625f, 0.0625f, 0.25f};

// Within what keeps 0 · it and -inf · it numbers.
float inverse_of(double temperature) {
  constexpr double least = std::numeric_limits<float>::denorm_min();
  return static_cast<float>(std::clamp(1.0 / temperature, least, 1e30));
}

double sum_of(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

int Draw::choose(LogitRow& row, double number) {
  row_ = &row;
  weighing_ = {row.best(), inverse_of(rules_.temperature), -kInfinity, 0.0f, kInfinity};
  if (rules_.top_k && *rules_.top_k < row.tokens())
    weighing_.least = weighing_.score(row.ranked(*rules_.top_k));
  if (rules_.typical_p < 1) keep_typical();
  if (rules_.top_p < 1) keep_nucleus();
  if (rules_.min_p > 0) keep_likely();
  return token_at(number * weigh());
}

// A token's information is log(total) - score, and its mean over the distribution is log(total)
// minus the mean score: the distance of the one from the other is that of score and mean score.
void Draw::keep_typical() {
  const double total = weigh(true);
  const auto mean = static_cast<float>(sum_of(moments_) / total);
  weighing_.radius = reach(mean, rules_.typical_p * total);
  weighing_.centre = mean;
}

void Draw::keep_nucleus() {
  const double total = weigh();
  weighing_.least = std::max(weighing_.least, -reach(0.0f, rules_.top_p * total));
}

void Draw::keep_likely() {
  const double least = double(highest_score()) + std::log(rules_.min_p);
  auto rounded = static_cast<float>(least);
  if (rounded < least) rounded = std::nextafter(rounded, kInfinity);
  weighing_.least = std::max(weighing_.least, rounded);
}

float Draw::highest_score() const {
  if (weighing_.admits(0.0f)) return 0.0f;
  float highest = -kInfinity;
  for (int token = 0; token < row_->tokens(); ++token) {
    const float score = weighing_.score(row_->data()[token]);
    if (weighing_.admits(score)) highest = std::max(highest, score);
  }
  return highest;
}

float Draw::reach(float around, double goal) {
  Bracket bracket{-kInfinity, kInfinity, 0, 0};
  const size_t first = around == 0.0f && goal > kFlat ? 1 : 0;
  for (size_t line = first; line < std::size(kSteps); ++line)
    if (bracket_by(kSteps[line], around, goal, bracket)) return narrow(around, goal, bracket);
  return kInfinity;
}

bool Draw::bracket_by(const float* limits, float around, double goal, Bracket& bracket) {
  double masses[kLimits];
  row_->kernels().masses(row_->data(), row_->tokens(), row_->peaks(), weighing_, around, limits,
                         masses);
  for (int i = 0; i < kLimits; ++i) {
    if (masses[i] >= goal) {
      bracket.outer = limits[i];
      bracket.enough = masses[i];
      return true;
    }
    bracket.inner = limits[i];
    bracket.weight = masses[i];
  }
  return false;
}

// Closes in until there are few enough tokens to sort, or they all tie.
float Draw::narrow(float around, double goal, Bracket bracket) {
  while (!collect(around, bracket)) {
    const float start = std::max(bracket.inner, 0.0f);
    const float width = bracket.outer - start;
    if (std::nextafter(start, bracket.outer) >= bracket.outer) return bracket.outer;
    const double part = (goal - bracket.weight) / (bracket.enough - bracket.weight);
    const float guess = start + width * static_cast<float>(part);
    float limits[kLimits];
    for (int i = 0; i < kLimits; ++i)
      limits[i] = std::clamp(guess + width * kAround[i], start, bracket.outer);
    limits[kLimits - 1] = bracket.outer;
    bracket_by(limits, around, goal, bracket);
    if (bracket.outer - std::max(bracket.inner, 0.0f) < width) continue;
    std::fill_n(limits, kLimits - 1, start + width / 2);  // so close that limits fall together
    bracket_by(limits, around, goal, bracket);
  }
  return candidates_.empty() ? bracket.outer : last_of(goal, bracket.weight);
}

bool Draw::collect(float around, const Bracket& bracket) {
  candidates_.resize(kRoom);
  const int found = row_->kernels().between(row_->data(), row_->tokens(), row_->peaks(), weighing_,
                                            around, bracket.inner, bracket.outer,
                                            candidates_.data(), static_cast<int>(kRoom));
  candidates_.resize(std::min(kRoom, size_t(found)));
  return size_t(found) <= kRoom;
}

// Where the sorted candidates, on top of `weight`, weigh `goal`; the last of them if rounding lets
// none do so.
float Draw::last_of(double goal, double weight) {
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.off < b.off; });
  for (const Candidate& candidate : candidates_) {
    weight += double(candidate.weight);
    if (weight >= goal) return candidate.off;
  }
  return candidates_.back().off;
}

// The weight of all admitted tokens.
double Draw::weigh(bool moments) {
  sums_.resize(size_t(row_->blocks()));
  if (moments) moments_.resize(sums_.size());
  row_->kernels().weigh(row_->data(), row_->tokens(), row_->peaks(), weighing_, sums_.data(),
                        moments ? moments_.data() : nullptr);
  return sum_of(sums_);
}

// Blocks first, then the tokens of one block. Where rounding leaves the goal beyond the end, the
// last that is possible at all.
int Draw::token_at(double goal) {
  size_t block = 0;
  double before = 0;
  double running = 0;
  for (size_t i = 0; i < sums_.size() && running <= goal; ++i) {
    if (sums_[i] == 0.0f) continue;
    block = i;
    before = running;
    running += double(sums_[i]);
  }
  const int first = static_cast<int>(block) * kLogitBlock;
  const int count = std::min(kLogitBlock, row_->tokens() - first);
  float weights[kLogitBlock];
  row_->kernels().weights(row_->data() + first, count, weighing_, weights);
  int last = 0;
  for (int i = 0; i < count && before <= goal; ++i) {
    if (weights[i] == 0.0f) continue;
    last = i;
    before += double(weights[i]);
  }
  return first + last;
}

}  // namespace overclock
