"""What guessing ahead gains on texts that repeat their prompt, and what it costs on others.

    python benchmarks/speculation.py --model MODEL [--repetitions 5] [--draft MODEL]

Every text is answered with and without guesses in turns; tokens are the same by construction, and
that is checked. Prints the medians of tokens/s and of their ratio.
"""

from __future__ import annotations

import argparse
import statistics

from overclock import LLM, Completion

STORY = (
    "The old lighthouse keeper counted the waves every evening. On the third of May he wrote in "
    "his diary: 'Seventeen ships passed, two of them under sail.' Nobody in the village knew why "
    "he kept such careful notes, but the harbour master read them with great interest."
)
CODE = """def total(prices, tax):
    result = 0
    for price in prices:
        result = result + price
    return result * (1 + tax)


def average(prices):
    return sum(prices) / len(prices)
"""
RECORDS = "\n".join(
    f"{number}. {name}, born {year}, {city}"
    for number, (name, year, city) in enumerate(
        (
            ("Ada Lovelace", 1815, "London"),
            ("Alan Turing", 1912, "London"),
            ("Grace Hopper", 1906, "New York"),
            ("Kurt Gödel", 1906, "Brno"),
            ("Emmy Noether", 1882, "Erlangen"),
            ("Konrad Zuse", 1910, "Berlin"),
        ),
        1,
    )
)
REPEATING = {
    "summary with quotes": f"Quote every sentence of this text word for word:\n\n{STORY}",
    "code edit": f"Write this code again with a docstring in each function:\n\n{CODE}",
    "extraction": f"Copy this list of people exactly as it is:\n\n{RECORDS}",
}
OTHERS = {
    "story": "Tell me a story about a fox who learns to paint.",
    "explanation": "Why do leaves change their colour in autumn?",
    "letter": "Write a letter to a friend about a journey by train through the mountains.",
    "plan": "How would you plan a small garden on a balcony?",
}
TOKENS = 160


def answer(llm: LLM, question: str, speculation: str) -> Completion:
    """One answer, its prompt in KV pages already."""
    messages = [{"role": "user", "content": question}]
    return llm.generate(messages, TOKENS, speculation=speculation)  # type: ignore[call-overload, no-any-return]


def ratio(llm: LLM, question: str, repetitions: int) -> tuple[float, float, float, Completion]:
    """Median tokens/s without and with guesses, the median of their ratios, and an answer."""
    plain, guessed, ratios = [], [], []
    for number in range(repetitions + 1):
        one, two = answer(llm, question, "off"), answer(llm, question, "auto")
        assert one.token_ids == two.token_ids, "guesses changed a token"
        slow, fast = (each.timing.generation_tokens_per_s for each in (one, two))
        if number and slow and fast:
            plain.append(slow)
            guessed.append(fast)
            ratios.append(fast / slow)
    medians = [statistics.median(values) for values in (plain, guessed, ratios)]
    return medians[0], medians[1], medians[2], two


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--draft")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    print("| text | without, tokens/s | with | ratio | guesses | came true | tokens |")
    print("| :- | -: | -: | -: | -: | -: | -: |")
    with LLM(arguments.model, draft=arguments.draft) as llm:
        for texts in (REPEATING, OTHERS):
            ratios = []
            for name, question in texts.items():
                slow, fast, times, last = ratio(llm, question, arguments.repetitions)
                ratios.append(times)
                usage = last.usage
                print(
                    f"| {name} | {slow:,.0f} | {fast:,.0f} | {times:.2f} × | "
                    f"{usage.drafted_tokens} | {usage.accepted_tokens} | "
                    f"{usage.completion_tokens} |"
                )
            kind = "repeating" if texts is REPEATING else "others"
            print(f"| **median, {kind}** | | | **{statistics.median(ratios):.2f} ×** | | | |")


if __name__ == "__main__":
    main()
