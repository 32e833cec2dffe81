// How the lanes of an instruction divide its work.
#include "core/frame.h"
#include "tests/testing.h"

namespace overclock::testing {
namespace {

struct Division {
  int total;
  int lanes;
  int piece;

  std::string name() const {
    return std::to_string(total) + " units in pieces of " + std::to_string(piece) + " among " +
           std::to_string(lanes) + " lanes";
  }
};

// How often each unit is claimed when lanes come in random order; some come never.
std::vector<int> claims(const Division& d, Random& random) {
  std::vector<Cursor> cursors(static_cast<size_t>(d.lanes));
  std::vector<int> times(static_cast<size_t>(d.total));
  const int busy = 1 + below(random, d.lanes);
  for (int idle_calls = 0; idle_calls < 8 * d.lanes;) {
    const Lane lane{below(random, busy), d.lanes, cursors.data(), nullptr};
    int begin = 0;
    int end = 0;
    if (!lane.claim(d.total, d.piece, begin, end)) {
      ++idle_calls;
      continue;
    }
    check(0 <= begin && begin < end && end <= d.total && end - begin <= d.piece,
          "a piece of " + d.name());
    for (int unit = begin; unit < end; ++unit) ++times[static_cast<size_t>(unit)];
  }
  return times;
}

KERNEL_TEST(every_unit_is_claimed_once) {
  Random random(1);
  for (int total : {0, 1, 2, 5, 18, 257})
    for (int lanes : {1, 2, 3, 7})
      for (int piece : {1, 3}) {
        const Division d{total, lanes, piece};
        for (int times : claims(d, random)) check(times == 1, d.name());
      }
}

KERNEL_TEST(lanes_begin_with_their_own_stretch) {
  const int total = 20;
  std::vector<Cursor> cursors(4);
  for (int unit = 0; unit < total / 4; ++unit)
    for (int index : {3, 1, 0, 2}) {
      int begin = 0;
      int end = 0;
      check(Lane{index, 4, cursors.data(), nullptr}.claim(total, 1, begin, end), "work is left");
      check(begin == total / 4 * index + unit, "a lane walks through its own stretch");
    }
}

}  // namespace
}  // namespace overclock::testing
