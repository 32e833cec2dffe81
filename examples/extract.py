"""Take facts out of sentences, as JSON of a schema: all sentences at once, none out of form.

python examples/extract.py "Ada, 36, lives in London." "Grace is 85 and works in New York."
"""

from __future__ import annotations

import json
import sys

from overclock import LLM
from overclock.clock import grammar

SENTENCES = ["Ada, 36, lives in London.", "Grace is 85 and works in New York."]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "city": {"type": "string", "maxLength": 30},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}

INSTRUCTIONS = "Write the name, age and city of the person in the text as JSON."


def main() -> None:
    """Print a line of JSON for each sentence of the command line."""
    sentences = sys.argv[1:] or SENTENCES
    prompts = [
        [
            {"role": "system", "content": INSTRUCTIONS},  # run once, whatever the number
            {"role": "user", "content": sentence},
        ]
        for sentence in sentences
    ]
    with LLM("smollm2") as llm:
        answers = llm.generate(prompts, 100, grammar=grammar.json_schema(PERSON))
    for answer in answers:
        print(json.dumps(json.loads(answer.text), ensure_ascii=False))


if __name__ == "__main__":
    main()
