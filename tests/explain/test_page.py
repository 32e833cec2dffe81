"""The page: whole in itself, safe for any token, and its figures those of the record."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from overclock.explain.answers import answer_of, explain_answer
from overclock.explain.encodings import explain_encoding
from overclock.explain.explanation import Explanation, Wanted
from overclock.explain.page import page
from overclock.explain.record import maps_record, record
from overclock.explain.texts import Token
from tests.browser import open_page
from tests.explain import rigs

HOSTILE = [
    "</script><img src=x onerror=document.title='broken'>",
    "<!--<script>",
    "&lt;b&gt;",
    "\u2028/*data*//*page.js*/",
    "${1}`\\u003c",
]


def explained(keep_maps: bool = True) -> Explanation:
    model = rigs.explainer("gemma3")
    prompt = rigs.ids_of("gemma3")
    answer = answer_of(model, prompt, 5, lambda done, total: None)
    return explain_answer(model, prompt, answer, Wanted(keep_maps=keep_maps))


def hostile() -> Explanation:
    """Every token, answer and name is what a page must not obey."""
    found = explained()
    tokens = [
        Token(token.id, HOSTILE[n % len(HOSTILE)], is_special=False)
        for n, token in enumerate(found.tokens)
    ]
    return replace(
        found,
        model=HOSTILE[0],
        tokens=tuple(tokens),
        targets=tuple(replace(each, text=HOSTILE[0]) for each in found.targets),
        names=dict.fromkeys(found.names, HOSTILE[0]),
    )


def data_of(html: str) -> Any:
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


@pytest.mark.parametrize("found", [explained, hostile])
def test_the_data_is_the_record(found: Any) -> None:
    made = found()
    html = page(made).decode()
    wanted = json.loads(json.dumps({**record(made), "maps": maps_record(made)}))
    assert data_of(html) == wanted
    assert html.count("</script>") == 2
    assert "<img" not in html
    assert "<!--" not in html


def test_nothing_is_fetched() -> None:
    html = page(explained()).decode()
    assert "default-src 'none'" in html
    assert re.findall(r"""(?:https?:)?//[a-z]""", html) == []
    assert re.findall(r"""\b(?:src|url\()""", html.replace("-src", "")) == []


def test_maps_are_packed_row_by_row() -> None:
    found = explained()
    assert found.looks is not None
    assert found.looks.kept is not None
    maps = maps_record(found)
    assert maps is not None
    values = np.frombuffer(base64.b64decode(str(maps["data"])), np.uint8)
    tokens, layers, heads = len(found.tokens), 3, 4
    rows = values.reshape(layers, heads, -1)
    at = 0
    for row in range(tokens):
        wanted = found.looks.kept[:, :, row, : row + 1]
        np.testing.assert_array_equal(rows[:, :, at : at + row + 1], wanted)
        at += row + 1
    assert at == rows.shape[2]
    assert maps_record(explained(keep_maps=False)) is None


@contextmanager
def opened(browser: Browser, tmp_path: Path, found: Explanation, **options: Any) -> Iterator[Page]:
    """The page in a browser; nothing may go wrong in it."""
    file = tmp_path / "page.html"
    file.write_bytes(page(found))
    with open_page(browser, file, **options) as watched:
        yield watched.page


def text(shown: Page, selector: str) -> str:
    return str(shown.locator(selector).first.text_content())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_those_of_the_record(browser: Browser, tmp_path: Path, scheme: str) -> None:
    found = explained()
    value: Any = record(found)
    with opened(browser, tmp_path, found, colors=scheme) as shown:
        assert text(shown, "#said") == "".join(target["text"] for target in value["targets"])
        spans = shown.locator("#prompt span")
        assert spans.count() == found.prompt
        shown.locator("#answer span").nth(2).click()
        falls = value["occlusion"]["falls"][2]
        for place in range(found.prompt):
            title = spans.nth(place).get_attribute("title")
            if falls[place] is None:
                assert title == ""
            else:
                assert float(title or "nan") == pytest.approx(falls[place], abs=6e-4, rel=0.06)
        shown.get_by_role("button", name="attention").click()
        looks = value["attention"]["targets"][2]
        titles = [
            float(spans.nth(place).get_attribute("title") or "nan") for place in range(found.prompt)
        ]
        assert titles == pytest.approx(looks[: found.prompt], abs=6e-4, rel=0.06)
        assert shown.locator("#lens tbody tr").count() == 3
        best = value["lens"]["top"][1][2][0]
        shown.locator("#lens tbody tr").nth(1).locator("td").nth(2).click()
        assert f"{best['probability']:.3f}" in text(shown, "#lens-readout")


def test_the_map_shows_the_chosen_head(browser: Browser, tmp_path: Path) -> None:
    found = explained()
    with opened(browser, tmp_path, found) as shown:
        ids = [token.id for token in found.tokens]
        maps = rigs.explainer("gemma3").all_maps(ids)
        for layer, head, wanted in (("all", "all", maps.mean((0, 1))), ("2", "3", maps[2, 3])):
            shown.select_option("#layer", layer)
            shown.select_option("#head", head)
            drawn = np.array(shown.evaluate("Array.from(map)")).reshape(len(ids), len(ids))
            assert np.abs(drawn - wanted).max() < 1 / 255
        frame = shown.evaluate("frame")
        at = frame["edge"] + 2.5 * frame["cell"]
        shown.locator("#map").hover(position={"x": at, "y": at})
        assert f"{maps[2, 3, 2, 2]:.2f}"[:3] in text(shown, "#map-readout")
        shown.locator("#heads").click(position={"x": 22 + 15 + 5, "y": 5})
        assert shown.locator("#layer").input_value() == "0"
        assert shown.locator("#head").input_value() == "1"


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_tokens_are_text_and_nothing_is_wider_than_the_window(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    with opened(browser, tmp_path, hostile(), width=width) as shown:
        chosen = shown.locator("#answer span").nth(1)
        chosen.click()
        shown.mouse.move(0, 0)
        assert chosen.get_attribute("class") == "chosen"
        assert shown.locator("img").count() == 0
        assert HOSTILE[0][:30] in shown.title()
        assert text(shown, "#prompt span") == HOSTILE[0]
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["bert-sequence", "bert-mean", "roberta-token"])
def test_encoders_have_a_page_too(browser: Browser, tmp_path: Path, name: str) -> None:
    found = explain_encoding(rigs.explainer(name), rigs.TEXT, Wanted(keep_maps=True))
    with opened(browser, tmp_path, found) as shown:
        assert text(shown, "#said") == found.targets[0].text
        assert shown.locator("#answer-part").is_hidden()
        assert shown.locator("#lens-section").is_visible() == (found.lens is not None)
        assert shown.locator("#map").is_visible()


def test_a_page_of_one_method(browser: Browser, tmp_path: Path) -> None:
    for method in ("lens", "occlusion", "rollout"):
        model = rigs.explainer("llama")
        wanted = Wanted(methods=frozenset({method}), keep_maps=True)
        with opened(browser, tmp_path, explain_answer(model, [5, 6, 7], [8, 9], wanted)) as shown:
            assert shown.locator("#lens-section").is_visible() == (method == "lens")
            assert shown.locator("#map-section").is_visible() == (method == "rollout")
