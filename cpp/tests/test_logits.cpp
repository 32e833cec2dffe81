// What every tier does with rows of logits, and the choices that come of it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/sampler.h"
#include "core/tiers.h"
#include "tests/testing.h"

namespace overclock::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kSizes[] = {1, 15, 16, 17, 127, 128, 129, 500, 1000};

struct Row {
  std::vector<float> logits;
  std::vector<float> peaks;
  float best;

  int size() const { return static_cast<int>(logits.size()); }
};

Row random_row(Random& random, int size, const LogitKernels& kernels) {
  Row row{std::vector<float>(size_t(size)), std::vector<float>(size_t(logit_blocks(size))), 0};
  for (float& logit : row.logits) logit = uniform(random, -9.0f, 9.0f);
  for (int i = 0; i < size / 10; ++i) row.logits[size_t(below(random, size - 1))] = -kInfinity;
  check(kernels.peaks(row.logits.data(), size, row.peaks.data()), "all are numbers");
  row.best = *std::max_element(row.logits.begin(), row.logits.end());
  return row;
}

std::vector<Weighing> weighings(float best) {
  return {{best, 1.25f, -kInfinity, 0.0f, kInfinity},
          {best, 1.25f, -7.5f, 0.0f, kInfinity},
          {best, 0.4f, -kInfinity, -2.0f, 1.5f},
          {best, 0.4f, -3.0f, -2.0f, 1.5f},
          {best, 1e30f, -kInfinity, 0.0f, kInfinity},
          {best, std::numeric_limits<float>::denorm_min(), -kInfinity, 0.0f, kInfinity}};
}

double weight_of(const Weighing& weighing, float logit) {
  const float score = weighing.score(logit);
  return weighing.admits(score) && score > -87.0f ? std::exp(double(score)) : 0.0;
}

KERNEL_TEST(peaks_and_numbers) {
  const LogitKernels& kernels = kernels_of(tier).logits;
  Random random(31);
  for (int size : kSizes) {
    Row row = random_row(random, size, kernels);
    for (int block = 0; block < logit_blocks(size); ++block) {
      const auto first = row.logits.begin() + block * kLogitBlock;
      const auto last = row.logits.begin() + std::min(size, (block + 1) * kLogitBlock);
      check(row.peaks[size_t(block)] == *std::max_element(first, last), "peak");
    }
    for (float& logit : row.logits) {
      const float before = logit;
      logit = std::numeric_limits<float>::quiet_NaN();
      check(!kernels.peaks(row.logits.data(), size, row.peaks.data()), "a NaN is found");
      logit = before;
    }
  }
}

KERNEL_TEST(weights_of_tokens) {
  const LogitKernels& kernels = kernels_of(tier).logits;
  Random random(32);
  for (int size : kSizes) {
    const Row row = random_row(random, size, kernels);
    for (const Weighing& weighing : weighings(row.best)) {
      std::vector<float> sums(row.peaks.size()), moments(row.peaks.size());
      kernels.weigh(row.logits.data(), size, row.peaks.data(), weighing, sums.data(), nullptr);
      std::vector<float> again(row.peaks.size());
      kernels.weigh(row.logits.data(), size, row.peaks.data(), weighing, again.data(),
                    moments.data());
      check(sums == again, "sums with and without moments");
      for (int block = 0; block < logit_blocks(size); ++block) {
        double sum = 0, moment = 0;
        const int first = block * kLogitBlock;
        const int count = std::min(kLogitBlock, size - first);
        std::vector<float> weights(size_t(count), -1.0f);
        kernels.weights(row.logits.data() + first, count, weighing, weights.data());
        for (int i = 0; i < count; ++i) {
          const float logit = row.logits[size_t(first + i)];
          const double weight = weight_of(weighing, logit);
          sum += weight;
          if (weight > 0) moment += weight * double(weighing.score(logit));
          check(std::fabs(weights[size_t(i)] - weight) <= 4e-7 * weight, "weight");
        }
        check(std::fabs(sums[size_t(block)] - sum) <= 2e-6 * sum, "sum of weights");
        check(std::fabs(moments[size_t(block)] - moment) <= 2e-6 * std::fabs(moment) + 1e-30,
              "moment");
      }
    }
  }
}

KERNEL_TEST(tokens_around_a_score) {
  const LogitKernels& kernels = kernels_of(tier).logits;
  Random random(33);
  const float limits[kLimits] = {0.0f, 0.3f, 0.7f, 1.0f, 2.0f, 4.0f, 8.0f, 60.0f};
  for (int size : kSizes) {
    const Row row = random_row(random, size, kernels);
    for (const Weighing& weighing : weighings(row.best))
      for (float around : {0.0f, -1.7f}) {
        double masses[kLimits];
        kernels.masses(row.logits.data(), size, row.peaks.data(), weighing, around, limits, masses);
        for (int limit = 0; limit < kLimits; ++limit) {
          const float inner = limit == 0 ? -kInfinity : limits[limit - 1];
          double mass = 0;
          std::vector<float> offs;
          for (float logit : row.logits) {
            const float off = Weighing::off(weighing.score(logit), around);
            const double weight = weight_of(weighing, logit);
            if (off <= limits[limit]) mass += weight;
            if (off <= limits[limit] && off > inner && weight > 0) offs.push_back(off);
          }
          check(std::fabs(masses[limit] - mass) <= 2e-6 * mass, "mass");
          std::vector<Candidate> found(offs.size() + 1);
          const int room = static_cast<int>(offs.size());
          const int count = kernels.between(row.logits.data(), size, row.peaks.data(), weighing,
                                            around, inner, limits[limit], found.data(), room);
          check(count == room, "as many as there are");
          for (size_t i = 0; i < offs.size(); ++i) check(found[i].off == offs[i], "off");
          if (room > 0)
            check(kernels.between(row.logits.data(), size, row.peaks.data(), weighing, around,
                                  inner, limits[limit], found.data(), room - 1) > room - 1,
                  "more than there is room for");
        }
      }
  }
}

KERNEL_TEST(tokens_above_a_logit) {
  const LogitKernels& kernels = kernels_of(tier).logits;
  Random random(34);
  for (int size : kSizes) {
    const Row row = random_row(random, size, kernels);
    for (float limit : {-kInfinity, -3.0f, row.best, row.best + 1.0f}) {
      std::vector<int32_t> wanted;
      for (int token = 0; token < size; ++token)
        if (row.logits[size_t(token)] >= limit) wanted.push_back(token);
      std::vector<int32_t> found(wanted.size());
      const int room = static_cast<int>(wanted.size());
      const auto find = [&](int space) {
        return kernels.above(row.logits.data(), size, row.peaks.data(), limit, found.data(), space);
      };
      check(find(room / 2) == room, "counts beyond its room");
      check(find(room) == room && found == wanted, "tokens above");
    }
  }
}

KERNEL_TEST(forbidden_tokens) {
  const LogitKernels& kernels = kernels_of(tier).logits;
  Random random(35);
  for (int size : kSizes) {
    const Row row = random_row(random, size, kernels);
    std::vector<uint32_t> allowed(size_t(size + 31) / 32);
    for (uint32_t& word : allowed) word = random() | (random() % 2 ? 0xffff : 0);
    std::vector<float> changed = row.logits;
    kernels.forbid(changed.data(), size, allowed.data());
    for (size_t token = 0; token < changed.size(); ++token)
      check(changed[token] ==
                (allowed[token / 32] >> token % 32 & 1 ? row.logits[token] : -kInfinity),
            "mask");
  }
}

KERNEL_TEST(tiers_choose_alike) {
  Random random(36);
  std::vector<SamplerRules> all(8);
  for (size_t i = 0; i < all.size(); ++i) all[i].seed = i;
  for (size_t i = 1; i < all.size(); ++i) all[i].draw.temperature = 0.8;
  all[2].draw.top_p = 0.9;
  all[3].draw.typical_p = 0.9;
  all[4].draw.top_k = 30;
  all[5].draw.min_p = 0.01;
  all[6].penalties = {1.2, 0.5, 0.5};
  all[7].dry.multiplier = 1.0;
  for (const SamplerRules& rules : all)
    for (int size : kSizes) {
      Sampler one(rules, size, {0, 0, 0}, kernels_of(tier));
      Sampler other(rules, size, {0, 0, 0}, kernels_of("portable"));
      for (int step = 0; step < 10; ++step) {
        std::vector<float> row = random_row(random, size, kernels_of(tier).logits).logits;
        std::vector<float> copy = row;
        check(one.choose(row.data()) == other.choose(copy.data()), "the same choice");
      }
    }
}

}  // namespace
}  // namespace overclock::testing
