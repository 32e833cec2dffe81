"""The face of a language model, on the tiny checkpoints and the reference machine."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overclock import LLM, Completion, OverclockError
from overclock.clock.settings import ClockSettings
from overclock.errors import InputError
from overclock.prompts import Prompt
from tests.checkpoints import FIXTURES

PROMPT = "hello world"
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", params=["reference", "native"])
def llm(request: pytest.FixtureRequest) -> Iterator[LLM]:
    if request.param == "native":
        pytest.importorskip("overclock.machine.native", exc_type=ImportError)
    with LLM(FIXTURES / "llama", exact=True, kv="f32", machine=request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected() -> Arrays:
    with np.load(FIXTURES / "llama" / "expected.npz") as file:
        return dict(file)


def test_scores_are_the_logits_of_transformers(llm: LLM, expected: Arrays) -> None:
    for name in "01":
        found = np.concatenate([block.copy() for block in llm.score(expected[f"ids_{name}"])])
        assert np.allclose(found, expected[f"logits_{name}"], atol=2e-3)


def test_greedy_tokens_follow_the_logits(llm: LLM) -> None:
    completion = llm.generate([1, 5, 9], 12, ignore_eos=True)
    ids = [1, 5, 9, *completion.token_ids]
    logits = np.concatenate([block.copy() for block in llm.score(ids)])
    assert completion.token_ids == logits[2:-1].argmax(axis=1).tolist()
    assert completion.finish_reason == "length"
    assert completion.usage.prompt_tokens == 3
    assert completion.usage.completion_tokens == 12


def test_prompts_in_pieces_give_the_same(llm: LLM) -> None:
    ids = llm.encode("The quick brown fox jumps over the lazy dog")
    whole = llm.generate(ids, 8).token_ids
    settings = ClockSettings(tick_tokens=5)
    with LLM(
        FIXTURES / "llama", exact=True, kv="f32", machine="reference", settings=settings
    ) as other:
        assert other.generate(ids, 8).token_ids == whole


@given(cut=st.integers(0, 30), seed=st.integers(0, 5))
@settings(max_examples=10)
def test_a_reused_prefix_changes_nothing_but_the_work(llm: LLM, cut: int, seed: int) -> None:
    first = llm.encode("The quick brown fox jumps over the lazy dog")
    second = [*first[:cut], 7, 8, 9]
    fresh = llm.generate(second, 6, temperature=1.0, seed=seed, reuse_prefix=False)
    assert fresh.usage.cached_tokens == 0
    llm.generate(first, 3)
    again = llm.generate(second, 6, temperature=1.0, seed=seed)
    assert again.token_ids == fresh.token_ids
    assert again.usage.cached_tokens >= min(cut, len(first))


def test_the_same_prompt_twice_runs_its_last_token_only(llm: LLM) -> None:
    ids = llm.encode(PROMPT)
    once = llm.generate(ids, 4)
    twice = llm.generate(ids, 4)
    assert twice.token_ids == once.token_ids
    assert twice.usage.cached_tokens == len(ids) - 1


def test_streamed_pieces_are_the_text(llm: LLM) -> None:
    whole = llm.generate(PROMPT, 20, temperature=1.0, seed=4, ignore_eos=True)
    pieces = list(llm.generate(PROMPT, 20, temperature=1.0, seed=4, ignore_eos=True, stream=True))
    last = pieces[-1].completion
    assert last is not None
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.completion for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert last.token_ids == whole.token_ids
    assert last.text == whole.text


def test_text_is_what_the_tokenizer_decodes(llm: LLM) -> None:
    for seed in range(5):
        found = llm.generate(PROMPT, 30, temperature=2.0, seed=seed, ignore_eos=True)
        assert found.text == llm.model.tokenizer.decode(found.token_ids, skip_special=True)


def test_an_end_token_ends_the_answer_and_is_not_shown(llm: LLM) -> None:
    [end] = llm.model.tokenizer.eos_ids
    for seed in range(200):
        found = llm.generate(PROMPT, 100, temperature=3.0, seed=seed)
        if found.finish_reason == "stop":
            break
    assert found.token_ids[-1] == end
    assert end not in found.token_ids[:-1]
    assert found.text == llm.model.tokenizer.decode(found.token_ids[:-1], skip_special=True)
    longer = llm.generate(PROMPT, 100, temperature=3.0, seed=seed, ignore_eos=True)
    assert longer.token_ids[: len(found.token_ids)] == found.token_ids
    assert len(longer.token_ids) == 100


def test_stop_strings_cut_the_text_where_they_begin(llm: LLM) -> None:
    whole = llm.generate(PROMPT, 30, ignore_eos=True)
    stop = whole.text[9:13]  # lies across tokens
    found = llm.generate(PROMPT, 30, ignore_eos=True, stop=["never seen", stop])
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish_reason == "stop"
    assert whole.token_ids[: len(found.token_ids)] == found.token_ids
    shown = ""
    for piece in llm.generate(PROMPT, 30, ignore_eos=True, stop=stop, stream=True):
        shown += piece.text
        assert found.text.startswith(shown)
    assert shown == found.text


def test_what_might_have_been_a_stop_is_shown_at_the_end(llm: LLM) -> None:
    whole = llm.generate(PROMPT, 10, ignore_eos=True)
    found = llm.generate(PROMPT, 10, ignore_eos=True, stop=whole.text[-3:] + "more")
    assert found.text == whole.text
    assert found.finish_reason == "length"


def test_a_list_gives_a_list_of_the_same(llm: LLM) -> None:
    one, two = llm.generate(PROMPT, 5), llm.generate([1, 2, 3], 5)
    prompts: list[Prompt] = [PROMPT, [1, 2, 3]]
    found = llm.generate(prompts, 5)
    assert [each.token_ids for each in found] == [one.token_ids, two.token_ids]
    [single] = llm.generate([PROMPT], 5)
    assert isinstance(single, Completion)


def test_messages_go_through_the_chat_template(llm: LLM) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert llm.model.chat_template is not None
    rendered = llm.model.chat_template.render(messages, add_generation_prompt=True)
    ids = llm.model.tokenizer.encode(rendered, special=True, add_bos=False)
    assert llm.encode(messages) == ids
    assert llm.generate(messages, 4).token_ids == llm.generate(ids, 4).token_ids
    assert llm.generate([messages, messages], 4)[1].token_ids == llm.generate(ids, 4).token_ids


def test_arrays_are_token_ids(llm: LLM) -> None:
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    assert llm.generate(ids[0], 3).token_ids == llm.generate([1, 2, 3], 3).token_ids
    assert len(llm.generate(list(ids), 3)) == 2
    both: Any = llm.generate(ids, 3)
    assert len(both) == 2


def test_timing_is_told(llm: LLM) -> None:
    timing = llm.generate(PROMPT, 5, ignore_eos=True).timing
    assert timing.load_s == llm.load_s > 0
    assert timing.first_token_s is not None
    assert timing.first_token_s > 0
    assert timing.prompt_tokens_per_s is not None
    assert timing.prompt_tokens_per_s > 0
    assert timing.generation_tokens_per_s is not None
    assert llm.generate(PROMPT, 1).timing.generation_tokens_per_s is None


def test_the_context_bounds_the_answer(llm: LLM) -> None:
    ids = [5] * (llm.context - 2)
    assert len(llm.generate(ids, 100, ignore_eos=True).token_ids) == 3
    assert len(llm.generate([5] * llm.context, 100, ignore_eos=True).token_ids) == 1


def test_a_smaller_context_can_be_asked_for() -> None:
    with LLM(FIXTURES / "llama", context=40, machine="reference") as small:
        assert len(small.generate([5] * 30, 100, ignore_eos=True).token_ids) == 11
        with pytest.raises(InputError, match="context of up to 128"):
            small.generate([5] * 41)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "empty"),
        ([], "empty"),
        (np.zeros(0, np.int32), "empty"),
        ([5] * 129, "129 tokens and the context holds 128"),
        ([5, 288], "288 is not in the vocabulary"),
        ([-1], "-1 is not in the vocabulary"),
        ([2**70], "token ids|vocabulary"),
        ([1.5, 2], "must be text, token ids or messages"),
        ([True], "must be text, token ids or messages"),
        (5, "must be text"),
        (None, "must be text"),
        (b"bytes", "must be text"),
        (np.array([0.5]), "whole numbers"),
        ([[]], "empty"),
        (["ok", ""], "empty"),
        ([{"content": "no role"}], "role"),
        ([{"role": "user"}], "content"),
    ],
)
def test_impossible_prompts_are_refused_with_a_sentence(llm: LLM, prompt: Any, words: str) -> None:
    with pytest.raises(OverclockError, match=words):
        llm.generate(prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": math.nan},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"seed": "x"},
        {"stop": ""},
        {"stop": [3]},
        {"stop": ["x"] * 1000},
        {"stop_token_ids": [288]},
        {"logit_bias": {288: 1.0}},
        {"priority": 0.5},
        {"deadline_s": math.nan},
        {"deadline_s": -1},
        {"salt": 3},
        {"adapter": "none"},
        {"speculation": "magic"},
        {"prompt_logprobs": 99},
    ],
)
def test_impossible_values_are_refused_before_anything_runs(
    llm: LLM, options: dict[str, Any]
) -> None:
    generate: Any = llm.generate
    for stream in (False, True):
        with pytest.raises(InputError, match=next(iter(options))):
            generate(PROMPT, stream=stream, **options)


def test_unknown_options_raise(llm: LLM) -> None:
    with pytest.raises(TypeError, match="temprature"):
        llm.generate(PROMPT, temprature=0)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"threads": 1.5},
        {"kv": "f8"},
        {"context": 0},
        {"context": 129},
        {"kv_memory": 10},
        {"machine": "abacus"},
    ],
)
def test_impossible_openings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LLM(FIXTURES / "llama", **{"machine": "reference", **options})


def test_an_encoder_is_no_language_model() -> None:
    with pytest.raises(InputError, match="Encoder"):
        LLM(FIXTURES / "bert", machine="reference")


def test_messages_need_a_template() -> None:
    with (
        LLM(FIXTURES / "gemma3", machine="reference") as plain,
        pytest.raises(InputError, match="no chat template"),
    ):
        plain.generate([{"role": "user", "content": "hi"}])


def test_a_list_cannot_be_streamed(llm: LLM) -> None:
    with pytest.raises(InputError, match="one prompt"):
        llm.generate([PROMPT, PROMPT], stream=True)  # type: ignore[call-overload]


def test_two_models_in_one_process(llm: LLM) -> None:
    with LLM(FIXTURES / "qwen2", machine="reference") as other:
        mine = llm.generate(PROMPT, 6).token_ids
        theirs = other.generate(PROMPT, 6).token_ids
        one = llm.generate(PROMPT, 6, stream=True)
        two = other.generate(PROMPT, 6, stream=True)
        for _ in zip_longest(one, two):
            pass
        assert llm.generate(PROMPT, 6).token_ids == mine
        assert other.generate(PROMPT, 6).token_ids == theirs


def test_a_stream_that_is_left_gives_its_pages_back(llm: LLM) -> None:
    stream = llm.generate(PROMPT, 50, ignore_eos=True, stream=True)
    next(stream)
    assert llm.generate([3, 4, 5], 3, ignore_eos=True).token_ids  # it is in nobody's way
    stream.close()
    assert llm.generate(PROMPT, 2).token_ids
    assert llm.clock.pages.available == llm.clock.pages.count


def test_choices_run_their_prompt_once(llm: LLM) -> None:
    ids = llm.encode("The quick brown fox jumps over the lazy dog")
    ids = ids[1:] + ids[:1]  # not in the pages yet
    wanted = [
        llm.generate(ids, 6, temperature=1.0, seed=seed, reuse_prefix=False, salt=str(seed))
        for seed in (7, 8, 9)
    ]
    found = llm.choices(ids, 3, 6, temperature=1.0, seed=7)
    assert [each.token_ids for each in found] == [each.token_ids for each in wanted]
    assert sum(each.usage.cached_tokens == len(ids) - 1 for each in found) >= 2


def test_salts_share_nothing(llm: LLM) -> None:
    ids = [9, *llm.encode("The quick brown fox jumps over the lazy dog")]
    one = llm.generate(ids, 3, salt="one")
    two = llm.generate(ids, 3, salt="two")
    again = llm.generate(ids, 3, salt="one")
    assert (one.usage.cached_tokens, two.usage.cached_tokens) == (0, 0)
    assert again.usage.cached_tokens == len(ids) - 1
    assert one.token_ids == two.token_ids == again.token_ids


def test_logprobs_are_those_of_the_logits(llm: LLM) -> None:
    found = llm.generate([1, 5, 9], 6, ignore_eos=True, logprobs=3, prompt_logprobs=2)
    ids = [1, 5, 9, *found.token_ids]
    logits = np.concatenate(list(llm.score(ids))).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert found.logprobs is not None
    assert found.prompt_logprobs is not None
    for row, each in enumerate([*found.prompt_logprobs, *found.logprobs]):
        assert each.token == ids[row + 1]
        assert each.logprob == pytest.approx(logprobs[row, each.token], abs=1e-4)
        assert each.top[0][0] == logprobs[row].argmax()
    assert [len(each.top) for each in found.logprobs] == [3] * 6
    assert [len(each.top) for each in found.prompt_logprobs] == [2] * 2


def test_a_hook_changes_the_logits(llm: LLM) -> None:
    seen: list[list[int]] = []

    def only_seven(tokens: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(list(tokens))
        logits[:] = -np.inf
        logits[7] = 0
        return logits

    found = llm.generate([1, 2], 3, ignore_eos=True, logits_processor=only_seven)
    assert found.token_ids == [7, 7, 7]
    assert seen == [[1, 2], [1, 2, 7], [1, 2, 7, 7]]


def test_a_hook_that_fails_ends_its_own_request(llm: LLM) -> None:
    def broken(tokens: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        raise ZeroDivisionError("mine")

    other = llm.submit(PROMPT, 5)
    with pytest.raises(InputError, match="ZeroDivisionError: mine"):
        llm.generate([1, 2], 3, logits_processor=broken)
    assert other.result().finish_reason in ("length", "stop")


def test_a_prefix_goes_to_disk_and_back(llm: LLM, tmp_path: Path) -> None:
    ids = llm.encode("The quick brown fox jumps over the lazy dog again and again and again")
    wanted = llm.generate([*ids, 4], 5).token_ids
    file = tmp_path / "prefix.safetensors"
    assert llm.save_prefix(ids, file) == len(ids)
    machine: Any = "reference" if "Reference" in type(llm.machine).__name__ else "native"
    with LLM(FIXTURES / "llama", exact=True, kv="f32", machine=machine) as fresh:
        assert fresh.load_prefix(file) == len(ids)
        found = fresh.generate([*ids, 4], 5)
        assert found.usage.cached_tokens == len(ids)
        assert found.token_ids == wanted
        fresh.clock.check_integrity()
    with LLM(FIXTURES / "llama", exact=True, kv="f16", machine=machine) as other:
        with pytest.raises(InputError, match="another model, mode or KV format"):
            other.load_prefix(file)
        with pytest.raises(InputError, match="no file"):
            other.load_prefix(tmp_path / "none")
        file.write_bytes(file.read_bytes()[:-5])
        with pytest.raises(OverclockError, match="prefix"):
            other.load_prefix(file)


def test_adapters_are_chosen_by_request(llm: LLM) -> None:
    machine: Any = "reference" if "Reference" in type(llm.machine).__name__ else "native"
    with (
        np.load(FIXTURES / "llama-lora" / "expected.npz") as file,
        LLM(
            FIXTURES / "llama",
            exact=True,
            kv="f32",
            machine=machine,
            adapters={"small": FIXTURES / "llama-lora"},
        ) as adapted,
    ):
        assert file.files
        ids = [1, 5, 9, 3, 2, 1]
        base = llm.generate(ids, 8, ignore_eos=True).token_ids
        alone = adapted.generate(ids, 8, ignore_eos=True, adapter="small").token_ids
        assert alone != base
        replies = [
            adapted.submit(ids, 8, ignore_eos=True, adapter=name)
            for name in (None, "small", None, "small")
        ]
        found = [reply.result() for reply in replies]
        assert [each.token_ids for each in found] == [base, alone, base, alone]
        assert adapted.generate(ids, 1).usage.cached_tokens == len(ids) - 1
        with pytest.raises(InputError, match="no adapter 'large'"):
            adapted.generate(ids, 1, adapter="large")
        adapted.clock.check_integrity()


def test_an_adapter_of_another_model_is_refused() -> None:
    with pytest.raises(OverclockError, match=r"lora|adapter"):
        LLM(FIXTURES / "qwen2", machine="reference", adapters={"a": FIXTURES / "llama-lora"})


def test_a_draft_model_changes_no_token(llm: LLM) -> None:
    machine: Any = "reference" if "Reference" in type(llm.machine).__name__ else "native"
    options: Any = {"exact": True, "kv": "f32", "machine": machine}
    with LLM(FIXTURES / "llama", draft=FIXTURES / "llama", **options) as drafted:
        for seed in range(3):
            prompt = [7 * seed + 1, 4, 2]
            wanted = llm.generate(prompt, 30, temperature=1.0, seed=seed, ignore_eos=True)
            found = drafted.generate(prompt, 30, temperature=1.0, seed=seed, ignore_eos=True)
            assert found.token_ids == wanted.token_ids
        greedy = drafted.generate([3, 4, 5], 40, ignore_eos=True, speculation="draft")
        assert greedy.token_ids == llm.generate([3, 4, 5], 40, ignore_eos=True).token_ids
        drafted.clock.check_integrity()
    with pytest.raises(InputError, match="same vocabulary"):
        LLM(FIXTURES / "llama", draft=FIXTURES / "gemma3", machine="reference")


@pytest.mark.parametrize(("deadline", "reason"), [(0.0, "deadline"), (1e6, "length")])
def test_deadlines(llm: LLM, deadline: float, reason: str) -> None:
    found = llm.generate(PROMPT, 5, ignore_eos=True, deadline_s=deadline)
    assert found.finish_reason == reason


def test_threads_take_turns(llm: LLM) -> None:
    wanted = [llm.generate([n, n + 1], 10).token_ids for n in range(4)]
    found: list[list[int]] = [[] for _ in range(4)]

    def work(n: int) -> None:
        found[n] = llm.generate([n, n + 1], 10).token_ids

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_a_closed_model_says_so() -> None:
    opened = LLM(FIXTURES / "llama", machine="reference")
    stream = opened.generate(PROMPT, 5, stream=True)
    next(stream)
    opened.close()
    assert list(stream)[-1].completion is not None
    with pytest.raises(InputError, match="closed"):
        opened.generate(PROMPT)
    opened.close()


def test_who_comes_while_a_prefix_is_written_does_not_wait_for_ever(llm: LLM) -> None:
    found: list[Completion] = []
    reader = threading.Thread(target=lambda: found.append(llm.generate([8, 9, 10], 3)))
    with llm.driver.between_ticks():
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
    reader.join(60)
    assert found[0].token_ids == llm.generate([8, 9, 10], 3).token_ids
