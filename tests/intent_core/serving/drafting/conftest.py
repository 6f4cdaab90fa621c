"""A drafter of real labels, with the tokenizer of the tiny model."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from intent_core.language.calls import Call, parse_calls
from intent_core.serving.drafting.drafter import Drafter
from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.table import PromptMarks

SETS = Path(__file__).parents[3] / "data"
MARKS = PromptMarks(opening=(1, 5, 6), closing=(2, 7, 8, 9), end=2)


def read_rows(name: str) -> list[tuple[str, tuple[Call, ...]]]:
    rows = json.loads((SETS / name / "train.json").read_text(encoding="utf-8"))
    return [(row["instruction"], parse_calls(row["output"])) for row in rows]


class Draftsman:
    """Follows an answer that is known, and counts the steps that a server would need."""

    def __init__(self, tokenizer: Tokenizer, rows: Sequence[tuple[str, Sequence[Call]]]) -> None:
        self.tokenizer = tokenizer
        self.drafter = Drafter(learn_table(rows, MARKS), tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def ids(self, utterance: str, answer: str = "") -> list[int]:
        prompt = [*MARKS.opening, *self.encode(utterance), *MARKS.closing]
        return [*prompt, *self.encode(answer)]

    def draft(self, utterance: str, answer: str) -> str:
        """Return the text of the draft after the first tokens of an answer."""
        draft = self.drafter.draft(self.ids(utterance, answer))
        return str(self.tokenizer.decode(list(draft.ids), skip_special_tokens=False))

    def count_steps(self, utterance: str, answer: str, most: int = 16) -> tuple[int, int]:
        """Return the tokens of an answer, and the steps in which they are written with drafts."""
        prompt, tokens = self.ids(utterance), [*self.encode(answer), MARKS.end]
        written = steps = 1
        while written < len(tokens):
            draft = self.drafter.draft([*prompt, *tokens[:written]]).ids[:most]
            pairs = list(zip(draft, tokens[written:], strict=False))
            right = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
            written, steps = written + right + 1, steps + 1
        return len(tokens), steps


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
