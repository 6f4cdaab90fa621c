"""Drafts token ids: what an answer probably continues with, and the chance of each token."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from intent_core.serving.drafting.guess import Piece, guess_answer
from intent_core.serving.drafting.table import DraftTable
from intent_core.serving.drafting.utterance import UtteranceChances

_MOST_UTTERANCES, _LONGEST_UTTERANCE = 256, 2000
_BROKEN = "\ufffd"
_CERTAIN = 0.99
"""Of a token within a piece: the model can spell it otherwise."""


@dataclass(frozen=True)
class Draft:
    """Tokens that may follow; `chances[n]` is the chance that all of the first n + 1 are right."""

    ids: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()

    def after(self, count: int) -> "Draft":
        """Return the rest after some tokens that turned out to be right."""
        known = self.chances[count - 1] if count else 1.0
        return Draft(self.ids[count:], tuple(c / known for c in self.chances[count:]))


@dataclass
class _Answer:
    """An answer being written: its utterance, and the last draft with the tokens before it."""

    utterance: UtteranceChances
    before: tuple[int, ...] = ()
    draft: Draft = Draft()

    def continue_draft(self, written: tuple[int, ...]) -> Draft:
        """Return what is left of the draft; nothing if the answer is another one by now."""
        if written[: len(self.before)] != self.before:
            return Draft()
        since = written[len(self.before) :]
        return self.draft.after(len(since)) if self.draft.ids[: len(since)] == since else Draft()


class Drafter:
    """Drafts answers; keeps the last utterances, so that each is analysed once."""

    def __init__(self, table: DraftTable, tokenizer: Tokenizer) -> None:
        self._table, self._marks = table, table.marks
        self._tokenizer = tokenizer
        self._answers: OrderedDict[tuple[int, ...], _Answer] = OrderedDict()

    def draft(self, ids: Sequence[int]) -> Draft:
        """Return a draft of what follows the tokens of a prompt and the start of its answer.

        Args:
            ids: token ids of the prompt and of the answer so far.
        """
        closing = find_last(ids, self._marks.closing)
        start = closing + len(self._marks.closing)
        written = tuple(ids[start:])
        if closing < 0 or self._marks.end in written:
            return Draft()
        answer = self._find_answer(tuple(ids[:start]))
        draft = answer.continue_draft(written)
        if not draft.ids:
            draft = self._guess(answer.utterance, list(written))
            answer.before, answer.draft = written, draft
        return draft

    def _find_answer(self, prompt: tuple[int, ...]) -> _Answer:
        answer = self._answers.pop(prompt, None)
        if answer is None:
            answer = _Answer(UtteranceChances(self._table, self._read_utterance(prompt)))
        self._answers[prompt] = answer
        if len(self._answers) > _MOST_UTTERANCES:
            self._answers.popitem(last=False)
        return answer

    def _read_utterance(self, prompt: tuple[int, ...]) -> str:
        opening = self._marks.opening
        start = len(opening) if prompt[: len(opening)] == opening else 0
        ids = list(prompt[start : len(prompt) - len(self._marks.closing)])
        text = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        return text[-_LONGEST_UTTERANCE:]

    def _guess(self, utterance: UtteranceChances, written: list[int]) -> Draft:
        text = self._tokenizer.decode(written, skip_special_tokens=False).rstrip(_BROKEN)
        for pieces in guess_answer(self._table, utterance, text):
            draft = self._encode(text, pieces, written)
            if draft.ids:
                return draft
        return Draft()

    def _encode(self, text: str, pieces: Sequence[Piece], written: list[int]) -> Draft:
        """Return the tokens of a continuation; none unless they continue those written."""
        whole = text + "".join(piece.text for piece in pieces)
        encoding = self._tokenizer.encode(whole, add_special_tokens=False)
        if encoding.ids[: len(written)] != written:
            return Draft()
        ends = [end for _, end in encoding.offsets[len(written) :]]
        ids, chances = encoding.ids[len(written) :], list(_chances(len(text), pieces, ends))
        if pieces and not pieces[-1].text:
            ids.append(self._marks.end)
            chances.append((chances[-1] if chances else 1.0) * pieces[-1].chance)
        return Draft(tuple(ids), tuple(chances))


def _chances(start: int, pieces: Iterable[Piece], ends: Iterable[int]) -> Iterator[float]:
    """Yield for each token, by its end in the text, the chance that all up to it are right."""
    starts = []
    for piece in pieces:
        if piece.text:
            starts.append((start, piece.chance))
        start += len(piece.text)
    chance, done = 1.0, 0
    for end in ends:
        while done < len(starts) and starts[done][0] < end:
            chance *= starts[done][1]
            done += 1
        chance *= _CERTAIN
        yield chance


def find_last(ids: Sequence[int], part: Sequence[int]) -> int:
    """Return where a part occurs last in a sequence of token ids; -1 if it does not."""
    for start in range(len(ids) - len(part), -1, -1):
        if ids[start] == part[0] and tuple(ids[start : start + len(part)]) == tuple(part):
            return start
    return -1
