"""Files of recorded loads: what they may say, and how they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError
from overclock.simulate.recorded import Recorded, read_recorded
from overclock.simulate.workload import Arrival

GOOD = '{"at": 1, "prompt_tokens": 5, "output_tokens": 6}'


def read(tmp_path: Path, text: str | bytes) -> Recorded:
    path = tmp_path / "load.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_recorded(path)


def test_lines(tmp_path: Path) -> None:
    second = {"at": 3.5, "prompt_tokens": 70, "output_tokens": 1, "prefix": "a"}
    second |= {"prefix_tokens": 64, "priority": -2, "deadline": 1.5}
    load = read(tmp_path, f"{GOOD}\n\n{json.dumps(second)}\n")
    assert load.arrivals == (
        Arrival(0.0, 5, 6),
        Arrival(2.5, 70, 1, "a", 64, priority=-2, deadline_s=1.5),
    )
    assert (load.duration, load.rate) == (2.5, 0.8)
    twice = load.at_rate(1.6)
    assert (twice.duration, twice.rate) == (1.25, 1.6)
    source = twice.source()
    assert [source.take().at, source.take().at] == [0.0, 1.25]
    assert twice.within(1.0).arrivals == load.arrivals[:1]


def test_an_account_of_a_clock(tmp_path: Path) -> None:
    requests = [
        {"arrived": 105.0, "prompt": 7, "tokens": 3, "finish": "stop"},
        {"arrived": 101.5, "prompt": 9, "tokens": 0, "finish": "cancelled"},
        {"arrived": 102.0, "prompt": 8, "tokens": 4, "finish": "length"},
    ]
    load = read(tmp_path, json.dumps({"ticks": [], "requests": requests}, indent=1))
    assert load.arrivals == (Arrival(0.0, 8, 4), Arrival(3.0, 7, 3))


def test_all_at_once_have_no_rate(tmp_path: Path) -> None:
    load = read(tmp_path, f"{GOOD}\n{GOOD}")
    assert load.rate is None
    with pytest.raises(InputError, match="all requests of the file come at once"):
        load.at_rate(2.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "this is no JSON"),
        (GOOD[:-9], "is the file whole"),
        ("[" * 100_000, "this is no JSON"),
        ("[1]", "a JSON object is wanted"),
        ('{"at": 1, "prompt_tokens": 5}', "output_tokens is missing"),
        (GOOD.replace("1,", "-1,"), "at is -1"),
        (GOOD.replace("1,", "1e999,"), "at is inf"),
        (GOOD.replace("1,", f"1{'0' * 400},"), "at is 1000"),
        (GOOD.replace("1,", "NaN,"), "at is nan"),
        (GOOD.replace("1,", "true,"), "at is True"),
        (GOOD.replace("1,", '"1",'), "at is '1'"),
        (GOOD.replace("1,", "0.5,"), "0.5 s is before 1 s; sort the lines"),
        (GOOD.replace("5", "0"), "prompt_tokens is 0"),
        (GOOD.replace("5", "2.5"), "prompt_tokens is 2.5"),
        (GOOD.replace("6", "-6"), "output_tokens is -6"),
        (GOOD.replace("}", ', "size": 3}'), "'size' is unknown"),
        (GOOD.replace("}", ', "prefix": "a"}'), "prefix_tokens is missing"),
        (GOOD.replace("}", ', "prefix_tokens": 3}'), "prefix is None"),
        (GOOD.replace("}", ', "prefix": "a", "prefix_tokens": 6}'), "prefix_tokens is 6"),
        (GOOD.replace("}", ', "priority": 1.5}'), "priority is 1.5"),
        (GOOD.replace("}", ', "deadline": -1}'), "deadline is -1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match="line 3") as caught:
        read(tmp_path, f"{GOOD}\n\n{line}\n")
    assert message in str(caught.value)
    assert "load.jsonl" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_files_without_requests(tmp_path: Path) -> None:
    for text in ("", "\n\n", '{"requests": []}'):
        with pytest.raises(InputError, match="has no requests"):
            read(tmp_path, text)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path, b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_recorded(tmp_path)
    for request in (5, {}, {"arrived": 1.0, "prompt": 0, "tokens": 1}, {"arrived": None}):
        with pytest.raises(InputError, match="request 1"):
            read(tmp_path, json.dumps({"requests": [request]}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["at", "prompt_tokens", "output_tokens", "prefix", "prefix_tokens"])
REQUESTS = st.dictionaries(NAMES | st.sampled_from(["arrived", "prompt", "tokens"]), VALUES)
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.lists(REQUESTS.map(json.dumps), max_size=4).map(lambda lines: "\n".join(lines).encode()),
    st.lists(REQUESTS | VALUES, max_size=4).map(
        lambda found: json.dumps({"requests": found}).encode()
    ),
)


@given(TEXTS)
def test_any_file_is_a_load_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "load.jsonl"
    path.write_bytes(text)
    try:
        load = read_recorded(path)
    except InputError:
        return
    times = [each.at for each in load.arrivals]
    assert times[0] == 0
    assert times == sorted(times)
    assert all(each.prompt >= 1 and each.output >= 1 for each in load.arrivals)
