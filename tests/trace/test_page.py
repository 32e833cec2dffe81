"""The page of a trace, opened in a real browser: what it shows is what the trace says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from overclock.trace.page import SCRIPTS, page
from tests.browser import Watched, open_page
from tests.trace.documents import document
from tests.trace.simulated import stages

Trace = dict[str, Any]

SECTIONS = {
    "headline",
    "timeline",
    "breakdown",
    "roofline",
    "ticks",
    "layers",
    "memory",
    "instructions",
    "requests",
    "about",
}

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028\u2029'\"<!--"

PIXELS = """canvas => {
    const context = new OffscreenCanvas(canvas.width, canvas.height)
        .getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
}"""

FIGURES = """() => Object.fromEntries(
    [...document.querySelectorAll("[data-figure]")].map(
        (each) => [each.dataset.figure, each.dataset.value]))"""


@contextmanager
def opened(
    browser: Browser, folder: Path, trace: Trace, other: Trace | None = None, **options: Any
) -> Iterator[Watched]:
    path = folder / "trace.html"
    path.write_text(page(trace, other), encoding="utf-8")
    with open_page(browser, path, **options) as watched:
        watched.page.wait_for_selector("html[data-ready=yes]")
        watched.page.evaluate("() => new Promise(requestAnimationFrame)")
        yield watched


def shown(view: Page) -> dict[str, float | None]:
    """The numbers on the page by their names."""
    found = view.evaluate(FIGURES)
    return {name: float(value) if value else None for name, value in found.items()}


def sections(view: Page) -> set[str]:
    return {each.get_attribute("id") or "" for each in view.locator("section:visible").all()}


def is_narrow(view: Page) -> bool:
    return bool(view.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def colors(view: Page) -> int:
    return int(view.locator("canvas").first.evaluate(PIXELS))


def expected(trace: Trace) -> dict[str, float | None]:
    """The headline, worked out once more from the trace."""
    ticks, wall = trace["ticks"], trace["wall_s"]
    alone = [tick for tick in ticks if tick["tokens"] and not tick["prompt_tokens"]]
    attainable = sum(each["attainable_s"] for each in trace["instructions"])
    first = [each["first_token"] - each["arrived"] for each in trace["requests"]]
    return {
        "tokens_per_second": trace["what"]["tokens"] / wall,
        "generation_per_second": sum(t["tokens"] for t in alone) / sum(map(stages, alone)),
        "wall_s": wall,
        "accounted_share": trace["accounted_share"],
        "limit_share": attainable / wall,
        "tick_p50": float(np.percentile([stages(tick) for tick in ticks], 50)),
        "first_token": float(np.median(first)),
        "load_s": trace["load"]["seconds"],
        "memory_peak": max(tick["memory"] for tick in ticks),
    }


def test_the_headline_is_what_the_trace_says(browser: Browser, tmp_path: Path) -> None:
    trace = document("streams", ticks=60, streams=4, layers=4)
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
    for name, value in expected(trace).items():
        assert figures[name] == pytest.approx(value, rel=1e-12), name


def test_every_instruction_has_its_figures(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=12)
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
    whole = sum(each["seconds"] for each in trace["instructions"])
    for each in trace["instructions"]:
        name, spent = f"instruction.{each['index']}", each["seconds"]
        moved = each["weight_bytes"] + each["activation_bytes"] + each["kv_bytes"]
        assert figures[f"{name}.runs"] == each["runs"]
        assert figures[f"{name}.seconds"] == spent
        assert figures[f"{name}.share"] == each["share"]
        assert figures[f"{name}.of_all"] == pytest.approx(spent / whole)
        assert figures[f"{name}.byte_rate"] == pytest.approx(moved / spent)
        assert figures[f"{name}.operation_rate"] == pytest.approx(each["operations"] / spent)
        assert figures[f"{name}.busy"] == pytest.approx(each["busy_s"] / (2 * spent))


def test_tick_statistics_are_those_of_numpy(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=41, layers=2)
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
    groups = {
        "all": trace["ticks"],
        "prompt": [tick for tick in trace["ticks"] if tick["prompt_tokens"]],
        "generation": [t for t in trace["ticks"] if t["tokens"] and not t["prompt_tokens"]],
    }
    for name, ticks in groups.items():
        times = [stages(tick) for tick in ticks]
        assert figures[f"ticks.{name}.count"] == len(times)
        for share in (50, 95, 99):
            value = float(np.percentile(times, share))
            assert figures[f"ticks.{name}.p{share}"] == pytest.approx(value, rel=1e-12)
        assert figures[f"ticks.{name}.max"] == max(times)


def test_the_heat_map_has_the_seconds_of_every_layer(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=6, layers=5)
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
        watched.page.get_by_role("button", name="Share of the limit").click()
        shares = shown(watched.page)
    cells = {name: value for name, value in figures.items() if name.startswith("layer.")}
    layered = [each for each in trace["instructions"] if each["layer"] is not None]
    assert len(cells) == len(layered)
    for layer in range(5):
        total = sum(each["seconds"] for each in layered if each["layer"] == layer)
        found = [
            value or 0.0 for name, value in cells.items() if name.startswith(f"layer.{layer}.")
        ]
        assert sum(found) == pytest.approx(total)
    gated = next(each for each in layered if each["opcode"] == "gated_matmul")
    assert shares["layer.0.gated_matmul ffn_gate.share"] == pytest.approx(gated["share"])


def test_requests_limits_and_loading_are_shown(browser: Browser, tmp_path: Path) -> None:
    trace = document("streams", ticks=40, streams=3, layers=1)
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
    for index, request in enumerate(trace["requests"]):
        wait = request["first_token"] - request["arrived"]
        assert figures[f"request.{index}.first"] == pytest.approx(wait)
        assert figures[f"request.{index}.tokens"] == request["tokens"]
    for level in trace["limits"]["levels"]:
        assert figures[f"limits.{level['name']}"] == level["gbs"] * 1e9
    for index, part in enumerate(trace["load"]["parts"]):
        assert figures[f"load.{index}.seconds"] == part["seconds"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_sections_are_there_and_fit(
    browser: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    trace = document(ticks=30)
    with opened(browser, tmp_path, trace, colors=scheme, width=width) as watched:
        assert sections(watched.page) == SECTIONS
        assert is_narrow(watched.page)
        assert colors(watched.page) > 8
        assert watched.page.locator("#roofline circle").count() > 200
        assert watched.page.locator("#memory svg polygon").count() == 4
        assert watched.page.locator("#breakdown .icicle button").count() > 20


def test_the_theme_button_changes_what_is_drawn(browser: Browser, tmp_path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, tmp_path, document(ticks=3, layers=1)) as watched:
        light = watched.page.evaluate(ground)
        watched.page.get_by_role("button", name="Dark").click()
        assert watched.page.evaluate(ground) != light
        watched.page.get_by_role("button", name="Light").click()
        assert watched.page.evaluate(ground) == light


def test_no_name_is_ever_markup(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=4, layers=2)
    trace["model"]["name"] = trace["machine"]["cpu"] = HOSTILE
    trace["requests"][0]["finish"] = trace["load"]["parts"][0]["name"] = HOSTILE
    trace["tree"]["children"][0]["name"] = HOSTILE
    trace["limits"]["levels"][0]["name"] = HOSTILE
    for each in trace["instructions"]:
        each["text"] = each["opcode"] = HOSTILE
    with opened(browser, tmp_path, trace, trace, width=360) as watched:
        assert watched.page.locator("img").count() == 0
        assert watched.page.locator("script").count() == 3
        assert HOSTILE in (watched.page.text_content("#about") or "")
        assert HOSTILE in (watched.page.text_content("#instructions") or "")
        assert is_narrow(watched.page)


def test_what_is_embedded_is_ascii_that_ends_no_element() -> None:
    trace = document(ticks=1, layers=1)
    trace["model"]["name"] = HOSTILE + "\ud800"
    data = re.search(r'id="document">(.*?)</script>', page(trace), re.DOTALL)
    assert data is not None
    assert data[1].isascii()
    assert not set(data[1]) & set("<>&")
    assert json.loads(data[1])["model"] == trace["model"]


@pytest.mark.parametrize("ticks", [0, 1])
@pytest.mark.parametrize("layers", [0, 2])
def test_hardly_anything_happened(
    browser: Browser, tmp_path: Path, ticks: int, layers: int
) -> None:
    trace = document(ticks=ticks, layers=layers)
    if not ticks:
        trace["requests"] = []
    with opened(browser, tmp_path, trace) as watched:
        assert sections(watched.page) >= SECTIONS - {"requests"}
        assert shown(watched.page)["ticks.all.count"] == ticks


def test_neither_limits_nor_loading_nor_memory_are_known(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=5, layers=2, limits=False, load=False)
    for tick in trace["ticks"]:
        tick["memory"] = 0
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
        text = watched.page.inner_text("body")
    assert figures["limit_share"] is figures["load_s"] is figures["memory_peak"] is None
    assert figures["instruction.0.share"] is None
    assert not re.search(r"NaN|Infinity|undefined|null", text)


def test_an_encoder_reads(browser: Browser, tmp_path: Path) -> None:
    trace = document("encoder", ticks=20, streams=4, layers=2)
    for each in trace["requests"]:
        each |= {"first_token": None, "last_token": None, "tokens": 0}
    with opened(browser, tmp_path, trace) as watched:
        figures = shown(watched.page)
    speed = trace["what"]["prompt_tokens"] / trace["wall_s"]
    assert figures["prompt_tokens_per_second"] == pytest.approx(speed)
    assert "first_token" not in figures


def test_thousands_of_ticks_are_drawn_as_shares(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=2000)
    with opened(browser, tmp_path, trace) as watched:
        assert shown(watched.page)["ticks.all.count"] == 2000
        assert colors(watched.page) > 8
        canvas = watched.page.locator("canvas")
        canvas.focus()
        for _ in range(40):
            canvas.press("+")
        canvas.press(".")
        assert "Tick 1" in watched.page.inner_text("#timeline .detail")
        assert colors(watched.page) > 4


def test_two_runs_are_compared(browser: Browser, tmp_path: Path) -> None:
    before, after = document(ticks=20, layers=4), document(ticks=20, layers=4, slower=1.5, seed=1)
    with opened(browser, tmp_path, before, after) as watched:
        assert watched.page.locator("#timeline canvas").count() == 2
        figures = shown(watched.page)
        watched.page.get_by_role("button", name="A tick").click()
        each_tick = shown(watched.page)
    change = after["wall_s"] - before["wall_s"]
    assert figures["compare.wall_s.difference"] == pytest.approx(change)
    assert figures["compare.wall_s.change"] == pytest.approx(change / before["wall_s"])
    assert_compared(before, after, "opcode", figures)
    assert_compared(before, after, "layer", figures)
    total = figures["compare.opcode.matmul.after"]
    assert total is not None
    assert each_tick["compare.opcode.matmul.after"] == pytest.approx(total / len(after["ticks"]))


def assert_compared(
    before: Trace, after: Trace, key: str, figures: dict[str, float | None]
) -> None:
    for name in {each[key] for each in before["instructions"]}:
        a, b = (spent(trace, key, name) for trace in (before, after))
        shown_as = f"compare.{key}.{'none' if name is None else name}"
        assert figures[f"{shown_as}.before"] == pytest.approx(a)
        assert figures[f"{shown_as}.after"] == pytest.approx(b)
        assert figures[f"{shown_as}.difference"] == pytest.approx(b - a)
        assert figures[f"{shown_as}.change"] == pytest.approx((b - a) / a)


def spent(trace: Trace, key: str, name: object) -> float:
    total: float = sum(each["seconds"] for each in trace["instructions"] if each[key] == name)
    return total


def test_different_programs_can_be_compared(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, document(ticks=3, layers=1), document(ticks=0)) as watched:
        figures = shown(watched.page)
        assert figures["compare.layer.7.before"] is None
        watched.page.get_by_role("button", name="B", exact=True).click()
        assert shown(watched.page)["ticks.all.count"] == 0


def test_the_timeline_zooms_moves_and_tells(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=30)
    with opened(browser, tmp_path, trace) as watched:
        view = watched.page
        canvas, window = view.locator("canvas"), view.locator("#timeline .controls > span")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        whole = window.inner_text()
        x, y = box["x"] + box["width"] * 0.1, box["y"] + box["height"] - 10
        view.mouse.click(x, y)
        assert view.inner_text("#timeline .detail").startswith("Tick 0")
        view.mouse.wheel(0, -400)
        view.wait_for_function(f"{json.dumps(whole)} != {SHOWN}")
        before = view.evaluate("canvas => canvas.toDataURL()", canvas.element_handle())
        view.mouse.move(x, y)
        view.mouse.down()
        view.mouse.move(x - 60, y, steps=3)
        view.mouse.up()
        view.mouse.move(x + 5, y)
        assert "execute" in view.inner_text("#tip")
        assert view.evaluate("canvas => canvas.toDataURL()", canvas.element_handle()) != before
        canvas.press("0")
        assert window.inner_text() == whole


SHOWN = "document.querySelector('#timeline .controls > span').textContent"


def test_the_breakdown_zooms_by_mouse_and_by_key(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, document(ticks=10, layers=3)) as watched:
        boxes = watched.page.locator("#breakdown .icicle button")
        boxes.filter(has_text="gated_matmul").click()
        assert "execute › gated_matmul" in watched.page.inner_text("#breakdown .detail")
        watched.page.keyboard.press("Escape")
        assert watched.page.inner_text("#breakdown .detail").startswith("wall")
        watched.page.keyboard.press("ArrowDown")
        watched.page.keyboard.press("Enter")
        assert watched.page.inner_text("#breakdown .detail").startswith("tokenise")


def test_instructions_sort_and_filter(browser: Browser, tmp_path: Path) -> None:
    trace = document(ticks=5, layers=3)
    with opened(browser, tmp_path, trace) as watched:
        table = watched.page.locator("#instructions")
        table.get_by_role("searchbox").fill("attend layer 2")
        assert table.locator("tbody tr").count() == 1
        table.get_by_role("searchbox").fill("")
        table.get_by_role("button", name="a run").click()
        times = [
            float(each)
            for each in table.locator("[data-figure$='.each_run']").evaluate_all(
                "all => all.map((each) => each.dataset.value)"
            )
        ]
    assert times == sorted(times, reverse=True)
    assert len(times) == len(trace["instructions"])


def test_all_assets_are_in_the_page_and_in_the_package() -> None:
    folder = files("overclock.trace") / "assets"
    names = {each.name for each in folder.iterdir()}
    assert names == {f"{name}.js" for name in SCRIPTS} | {"page.html", "page.css"}
    assert "<!--s" not in page(document(ticks=0))
