"""What a recorder keeps."""

from __future__ import annotations

from overclock.trace.recorder import Recorder
from tests.trace.rig import recorder, request, tick


def test_what_lies_between_start_and_stop_is_kept() -> None:
    found = recorder([tick(1.0), tick(2.0)], [request(1.5)], began=1.0, ended=3.0)
    assert [each.started for each in found.ticks] == [1.0, 2.0]
    assert [each.arrived for each in found.requests] == [1.5]
    assert (found.began, found.ended) == (1.0, 3.0)


def test_a_tick_that_was_under_way_is_left_out() -> None:
    found = recorder([tick(0.9), tick(1.0)], [request(0.0, ended=0.95)], began=1.0)
    assert [each.started for each in found.ticks] == [1.0]
    assert found.requests == []


def test_nothing_is_kept_after_the_stop_until_a_new_start() -> None:
    times = iter((0.0, 1.0, 2.0, 5.0))
    found = Recorder(lambda: next(times))
    found.start()
    found.tick(tick(1.0))
    found.stop()
    found.tick(tick(2.0))
    found.request(request(2.0))
    assert len(found.ticks) == 1
    assert found.requests == []
    found.start()
    assert found.ticks == []
    found.tick(tick(4.0))
    assert found.ticks == []
    found.tick(tick(5.0))
    assert len(found.ticks) == 1
    assert found.wants_detail
