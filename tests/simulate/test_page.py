"""The page: well formed, whole in one file, and its lines where the values are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.simulate import page
from overclock.simulate.lengths import Fixed
from overclock.simulate.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, axis, chart
from overclock.simulate.run import simulate
from overclock.simulate.sweep import Target, sweep
from overclock.simulate.workload import OpenLoop, Sizes
from tests.simulate.rig import ONE, setup

LOAD = OpenLoop(rate=10.0, duration=20.0, sizes=Sizes(output=Fixed(5)))


def test_a_page_is_whole_and_loads_nothing() -> None:
    target = Target(first=0.05, gap=0.02)
    result = simulate(setup(settings=ONE), LOAD)
    results = list(sweep(setup(settings=ONE), LOAD, [5.0, 10.0, 40.0]))
    charts = [*page.of_run(result, target), *page.of_sweep(results, target)]
    text = page.page("<title>", "a & b", [[("", "x"), ("<td>", "1")]], charts)
    # It is XML too, but for its first line and the tags that have no end.
    xml = re.sub(r"<meta[^>]*>", "", text.partition("\n")[2])
    root = ElementTree.fromstring(xml)
    assert len(root.findall(".//svg")) == 6
    assert [each.text for each in root.findall(".//td")] == ["<td>", "1"]
    assert not re.search(r"https?:|src=|href=|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_a_page_of_a_load_in_which_nothing_came() -> None:
    result = simulate(setup(), OpenLoop(rate=1e-6, duration=1.0))
    for text in page.of_run(result, Target()):
        ElementTree.fromstring(text)


def test_points_are_where_their_values_are() -> None:
    text = chart("t", Axis("x", 0, 10), Axis("y", 0, 2), [Line("l", [0, 5, 10], [0, 1, 2])])
    [path] = [
        each.get("d", "") for each in ElementTree.fromstring(text) if each.get("class") == "line c0"
    ]
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    wanted = [LEFT, HEIGHT - BOTTOM, LEFT + width / 2, TOP + height / 2, WIDTH - RIGHT, TOP]
    assert [float(number) for number in re.findall(r"[\d.]+", path)] == pytest.approx(wanted)


def test_long_lines_keep_their_peaks() -> None:
    ys = [0.0] * 5000
    ys[1234] = 7.0
    text = chart("t", axis("x", [5000]), axis("y", ys), [Line("l", range(5000), ys, True)])
    top = min(float(at) for at in re.findall(r"V([\d.]+)", text.split('class="line c0"')[1]))
    assert top == pytest.approx(TOP + (HEIGHT - TOP - BOTTOM) * (1 - 1 / 1.04), abs=0.1)


@given(st.floats(1e-9, 1e12))
def test_axes_have_few_round_numbers(high: float) -> None:
    ticks = axis("x", [high]).ticks()
    assert 3 <= len(ticks) <= 12
    assert all(-1e-9 * high <= tick <= 1.05 * high for tick in ticks)
    assert all(len(f"{tick:.6g}".strip("0.").replace(".", "")) <= 8 for tick in ticks)
