#include "core/history.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace overclock {
namespace {

constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kMostDry = 1e30;  // so that even the tokens that lose most keep an order

}  // namespace

void Edits::set(int32_t token, double value) {
  remember(token);
  row_[token] = static_cast<float>(std::min(value, kLargest));
}

void Edits::ban(int32_t token) {
  remember(token);
  row_[token] = -std::numeric_limits<float>::infinity();
}

float Edits::raw(int32_t token) const {
  for (const auto& [changed, value] : before_)
    if (changed == token) return value;
  return row_[token];
}

Counts::Counts(const PenaltyRules& rules, int vocabulary, const std::vector<int32_t>& prompt)
    : rules_(rules), places_(size_t(vocabulary)) {
  if (rules.repetition == 1) return;  // the other penalties hold nothing against a prompt
  for (int32_t token : prompt) seen(token);
}

Counts::Seen& Counts::seen(int32_t token) {
  int32_t& place = places_[size_t(token)];
  if (place == 0) {
    seen_.push_back({token, 0});
    place = static_cast<int32_t>(seen_.size());
  }
  return seen_[size_t(place) - 1];
}

void Counts::push(int32_t token) { ++seen(token).times; }

void Counts::penalize(Edits& edits) const {
  for (const auto& [token, times] : seen_) {
    const double logit = edits[token];
    double value = logit > 0 ? logit / rules_.repetition : logit * rules_.repetition;
    if (times > 0) value -= rules_.presence + rules_.frequency * times;
    edits.set(token, value);
  }
}

Dry::Dry(const DryRules& rules, const std::vector<int32_t>& prompt)
    : rules_(rules), tokens_(prompt) {
  std::sort(rules_.breakers.begin(), rules_.breakers.end());
}

bool Dry::breaks(int32_t token) const {
  return std::binary_search(rules_.breakers.begin(), rules_.breakers.end(), token);
}

// The Z-function (Gusfield 1997) of the tokens read from the last one backwards: linear time, even
// where everything repeats.
void Dry::find_repetitions(int count) {
  const auto back = [&](int i) { return tokens_[tokens_.size() - 1 - size_t(i)]; };
  lengths_.assign(size_t(count), 0);
  for (int i = 1, left = 0, right = 0; i < count; ++i) {
    int length = i < right ? std::min(right - i, lengths_[size_t(i - left)]) : 0;
    while (i + length < count && back(length) == back(i + length)) ++length;
    lengths_[size_t(i)] = length;
    if (i + length <= right) continue;
    left = i;
    right = i + length;
  }
}

void Dry::penalize(Edits& edits) {
  const int count = static_cast<int>(std::min(tokens_.size(), size_t(rules_.range)));
  const auto back = [&](int i) { return tokens_[tokens_.size() - 1 - size_t(i)]; };
  int unbroken = 0;
  while (unbroken < count && !breaks(back(unbroken))) ++unbroken;
  if (unbroken < rules_.allowed_length) return;
  find_repetitions(count);
  found_.clear();
  for (int i = 1; i < count; ++i) {
    const int length = std::min(lengths_[size_t(i)], unbroken);
    if (length >= rules_.allowed_length && !breaks(back(i - 1)))
      found_.emplace_back(back(i - 1), length);
  }
  std::sort(found_.begin(), found_.end());
  for (size_t i = 0; i < found_.size(); ++i) {
    const auto [token, length] = found_[i];
    if (i + 1 < found_.size() && found_[i + 1].first == token) continue;  // the longest comes last
    const double loss = rules_.multiplier * std::pow(rules_.base, length - rules_.allowed_length);
    edits.set(token, edits[token] - std::min(loss, kMostDry));
  }
}

}  // namespace overclock
