"""Rows that a person asked to have removed: known by digests, refused wherever they come again.

The list has no utterance in it. An utterance is recognised by a salted digest of its normalised
form (width, case and blanks do not count), an answer by iTAG's `MarkResultId`.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.exports.records import Record, Rejection
from intent_core.language.utterances import normalise_utterance

MESSAGE = "a person asked for its removal; its text is not kept"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CUT_STRING = re.compile(r'"(?:[^"\\]|\\.)*\\?\Z', re.DOTALL)


class ErasedRow(BaseModel):
    """An entry of the list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the entry; datasets that left something out for it name it."""
    utterance: str = ""
    """Salted digest; an entry has either this or the answer's id."""
    mark_result: str = ""
    since: AwareDatetime


class ErasureList:
    """What must not be learned any more."""

    def __init__(self, salt: bytes, rows: Iterable[ErasedRow] = ()) -> None:
        self._salt = salt
        self.rows = tuple(rows)
        self._utterances = {row.utterance: row.name for row in self.rows if row.utterance}
        self._mark_results = {row.mark_result: row.name for row in self.rows if row.mark_result}

    def digest(self, utterance: str) -> str:
        """What the list knows an utterance by."""
        text = normalise_utterance(utterance).encode("utf-8", "surrogatepass")
        return hmac.new(self._salt, text, hashlib.sha256).hexdigest()

    def find(self, utterance: str, mark_result: str = "") -> str | None:
        """The name of the entry that forbids this row; None when nothing does."""
        name = self._utterances.get(self.digest(utterance))
        return name or (self._mark_results.get(mark_result) if mark_result else None)

    def take_out(
        self, items: Iterable[Record | Rejection], taken: set[str]
    ) -> Iterator[Record | Rejection]:
        """The items with a `forgotten` rejection, bare of its text, for each that is forbidden.

        The names of the entries that forbade something are added to `taken`.
        """
        for item in items:
            if not self.rows:
                yield item
                continue
            if isinstance(item, Record):
                name = self.find(item.utterance, item.mark_result)
            else:
                name = self._find_in_raw(item.raw)
            if name is not None:
                taken.add(name)
                yield _refuse(item)
            elif isinstance(item, Rejection):
                # Half a text at the end cannot be compared, so it does not stay.
                yield item.model_copy(update={"raw": _cut_half_text(item.raw)})
            else:
                yield item

    def _find_in_raw(self, raw: str) -> str | None:
        """The same of a row that could not be used: of any text in it."""
        for text in (raw, *_STRING.findall(raw)):
            if name := self._utterances.get(self.digest(_unquote(text))):
                return name
        held = (name for mark_result, name in self._mark_results.items() if mark_result in raw)
        return next(held, None)


def _refuse(item: Record | Rejection) -> Rejection:
    return Rejection(
        source=item.source,
        line=item.line,
        byte_offset=item.byte_offset,
        reason="forgotten",
        message=MESSAGE,
        raw="",
    )


def _unquote(text: str) -> str:
    try:
        value = orjson.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, str) else text


def _cut_half_text(raw: str) -> str:
    rest = _STRING.sub(lambda match: " " * len(match[0]), raw)
    half = _CUT_STRING.search(rest)
    return raw[: half.start()] if half else raw
