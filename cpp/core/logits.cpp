#include "core/logits.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "core/check.h"

namespace overclock {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kUsualRoom = 1024;
constexpr int kSampled = 16;  // one token of so many

}  // namespace

void LogitRow::measure(const float* row, int tokens) {
  row_ = row;
  tokens_ = tokens;
  peaks_.resize(size_t(blocks()));
  const bool numbers = kernels_->peaks(row, tokens, peaks_.data());
  best_ = *std::max_element(peaks_.begin(), peaks_.end());
  if (!numbers || best_ == kInfinity)
    throw std::domain_error(
        "the model's logits are not finite numbers; its weights may be damaged");
  if (best_ == -kInfinity)
    throw std::domain_error(
        "no token can come next: the mask, the biases and the bans forbid all of them");
}

int LogitRow::likeliest() const {
  const auto block = std::find(peaks_.begin(), peaks_.end(), best_) - peaks_.begin();
  const float* first = row_ + block * kLogitBlock;
  return static_cast<int>(std::find(first, row_ + tokens_, best_) - row_);
}

float LogitRow::ranked(int rank) {
  const int found = find_highest(rank);
  values_.resize(size_t(found));
  for (size_t i = 0; i < values_.size(); ++i) values_[i] = row_[ids_[i]];
  std::nth_element(values_.begin(), values_.begin() + rank - 1, values_.end(), std::greater<>());
  return values_[size_t(rank) - 1];
}

int LogitRow::find_highest(int rank) {
  const int found = find_above(bound_of(rank));
  return found >= rank ? found : find_above(-kInfinity);
}

// Each of the `rank` highest peaks is a token of its own. If there are not so many, a part of the
// tokens tells where about the bound is, and half as many again make it likely.
float LogitRow::bound_of(int rank) {
  size_t place = size_t(rank);
  if (rank <= blocks()) {
    values_ = peaks_;
  } else {
    values_.clear();
    for (int token = 0; token < tokens_; token += kSampled) values_.push_back(row_[token]);
    place = place * 3 / (2 * kSampled) + kSampled;
    if (place > values_.size()) return -kInfinity;
  }
  const auto at = values_.begin() + static_cast<std::ptrdiff_t>(place) - 1;
  std::nth_element(values_.begin(), at, values_.end(), std::greater<>());
  return *at;
}

int LogitRow::find_above(float limit) {
  const auto find = [&] {
    return kernels_->above(row_, tokens_, peaks_.data(), limit, ids_.data(),
                           static_cast<int>(ids_.size()));
  };
  if (ids_.empty()) ids_.resize(kUsualRoom);
  int found = find();
  if (size_t(found) > ids_.size()) {
    ids_.resize(size_t(found));
    found = find();
  }
  return found;
}

double LogitRow::log_total() {
  values_.resize(size_t(blocks()));
  const Weighing all{best_, 1.0f, -kInfinity, 0.0f, kInfinity};
  kernels_->weigh(row_, tokens_, peaks_.data(), all, values_.data(), nullptr);
  double total = 0;
  for (float sum : values_) total += double(sum);
  return std::log(total);
}

void LogitRow::add_top(int count, double log_total, TokenLogprobs& to) {
  count = std::min(count, tokens_);
  if (count == 0) return;
  const int found = find_highest(count);
  std::partial_sort(
      ids_.begin(), ids_.begin() + count, ids_.begin() + found,
      [&](int32_t a, int32_t b) { return row_[a] > row_[b] || (row_[a] == row_[b] && a < b); });
  for (int i = 0; i < count; ++i)
    to.top.emplace_back(ids_[size_t(i)], logprob(row_[ids_[size_t(i)]], log_total));
}

std::vector<TokenLogprobs> logprobs_of(const LogitKernels& kernels, const float* rows, int tokens,
                                       const std::vector<int32_t>& targets, int top) {
  LogitRow row(kernels);
  std::vector<TokenLogprobs> all;
  for (size_t i = 0; i < targets.size(); ++i) {
    require(targets[i] >= 0 && targets[i] < tokens, "a target is not a token of the vocabulary");
    row.measure(rows + i * size_t(tokens), tokens);
    const double log_total = row.log_total();
    all.push_back({row.logprob(row.data()[targets[i]], log_total), {}});
    row.add_top(top, log_total, all.back());
  }
  return all;
}

}  // namespace overclock
