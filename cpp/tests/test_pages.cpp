// Whole KV pages, and the memory of results.
#include <cstring>

#include "tests/rig.h"

namespace overclock::testing {
namespace {

constexpr int kPages = 5;

std::vector<uint8_t> pattern(size_t bytes, int seed) {
  std::vector<uint8_t> made(bytes);
  for (size_t i = 0; i < bytes; ++i) made[i] = static_cast<uint8_t>(size_t(seed) * 31 + i * 7);
  return made;
}

// A machine with pages of two layers, each of which holds a pattern of its own.
struct Paged {
  Rig rig;
  explicit Paged(const std::string& tier, KvFormat kv) : rig(tier, 1, kv) {
    rig.cache(2, 24, kPages);
    rig.cache(3, 16, kPages);
    rig.machine().add_output(rig.activation(16).buffer, {});
    for (int32_t page = 0; page < kPages; ++page) {
      const std::vector<uint8_t> data = pattern(machine().page_bytes(), page);
      machine().write_pages(&page, 1, data.data());
    }
  }
  Machine& machine() { return rig.machine(); }
  void check_holds(const std::vector<int>& seeds, const std::string& what) {
    const size_t bytes = machine().page_bytes();
    const std::vector<int32_t> all = {0, 1, 2, 3, 4};
    std::vector<uint8_t> data(bytes * kPages);
    machine().read_pages(all.data(), kPages, data.data());
    for (size_t page = 0; page < kPages; ++page)
      check(std::memcmp(data.data() + page * bytes, pattern(bytes, seeds[page]).data(), bytes) == 0,
            what + ": page " + std::to_string(page));
  }
};

KERNEL_TEST(pages_are_whole_over_all_layers) {
  for (KvFormat kv : {KvFormat::F32, KvFormat::F16, KvFormat::I8}) {
    Paged b(tier, kv);
    const size_t element = kv == KvFormat::F32 ? 4 : kv == KvFormat::F16 ? 2 : 1;
    check(b.machine().page_bytes() >= 2 * size_t{kPageTokens} * (2 * 24 + 3 * 16) * element,
          "the bytes of a page");
    b.check_holds({0, 1, 2, 3, 4}, "as written");
    const std::vector<int32_t> sources = {0, 4, 3}, targets = {4, 2, 3};
    b.machine().copy_pages(sources.data(), targets.data(), 3);
    b.check_holds({0, 1, 0, 3, 0}, "copied in order");
  }
}

KERNEL_TEST(pages_that_there_are_not_are_refused) {
  Paged b(tier, KvFormat::F16);
  std::vector<uint8_t> data(b.machine().page_bytes());
  const int32_t good = 0;
  for (int32_t bad : {-1, kPages, INT32_MAX, INT32_MIN}) {
    check_refused([&] { b.machine().copy_pages(&bad, &good, 1); }, "a source");
    check_refused([&] { b.machine().copy_pages(&good, &bad, 1); }, "a target");
    check_refused([&] { b.machine().read_pages(&bad, 1, data.data()); }, "a page to read");
    check_refused([&] { b.machine().write_pages(&bad, 1, data.data()); }, "a page to write");
  }
  b.check_holds({0, 1, 2, 3, 4}, "after refusals");
  Rig none(tier);
  check(none.machine().page_bytes() == 0, "no pages, no bytes");
  check_refused([&] { none.machine().read_pages(&good, 1, data.data()); }, "a machine without KV");
}

KERNEL_TEST(a_result_stays_while_it_is_held) {
  Rig rig(tier);
  auto first = rig.machine().take_result(1000);
  first->data()[999] = 7;
  const uint8_t* const address = first->data();
  std::vector<std::shared_ptr<Memory>> held;
  for (int i = 0; i < 5; ++i) held.push_back(rig.machine().take_result(1000));
  for (size_t i = 0; i < held.size(); ++i) {
    check(held[i]->data() != address, "memory that is held is not given away");
    for (size_t k = 0; k < i; ++k) check(held[i]->data() != held[k]->data(), "nor given twice");
  }
  check(first->data()[999] == 7, "what is held keeps its bytes");
}

KERNEL_TEST(a_result_is_used_again) {
  Rig rig(tier);
  const uint8_t* const first = rig.machine().take_result(1000)->data();
  check(rig.machine().take_result(500)->data() == first, "memory that nobody holds");
  const auto grown = rig.machine().take_result(1 << 20);
  check(grown->bytes() >= 1 << 20, "memory that was too small");
  grown->data()[(1 << 20) - 1] = 1;
  check(rig.machine().take_result((64u << 20) + 1)->bytes() > 64u << 20, "more than is kept");
}

}  // namespace
}  // namespace overclock::testing
