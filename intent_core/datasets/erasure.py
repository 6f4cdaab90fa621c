"""The erasure list: rows that are excluded from all future datasets after an erasure request.

The list does not contain utterances. An utterance is recognised by a salted digest of its
normalised text (width, case and whitespace are ignored), an answer by iTAG's `MarkResultId`.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator

import msgspec
import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.exports.reader import find_utterance
from intent_core.exports.records import Record, Rejection
from intent_core.language.utterances import normalise_as_typed, normalise_utterance
from intent_core.recipe.config import DataConfig

MESSAGE = "excluded because of an erasure request; the text is not stored"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CUT_STRING = re.compile(r'"(?:[^"\\]|\\.)*\\?\Z', re.DOTALL)


class ErasedRow(BaseModel):
    """An entry of the erasure list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the entry; the manifest of a dataset lists the entries that excluded rows."""
    utterance: str = ""
    """Salted digest; an entry has either this or `mark_result`."""
    mark_result: str = ""
    since: AwareDatetime


class ErasureList:
    """Finds and removes the rows that must not be in a dataset."""

    def __init__(self, salt: bytes, rows: Iterable[ErasedRow] = ()) -> None:
        self._salt = salt
        self.rows = tuple(rows)
        self._utterances = {row.utterance: row.name for row in self.rows if row.utterance}
        self._mark_results = {row.mark_result: row.name for row in self.rows if row.mark_result}

    def digest(self, utterance: str) -> str:
        """Return the salted digest of an utterance."""
        return self._digest(normalise_utterance(utterance))

    def _digest(self, text: str) -> str:
        return hmac.new(
            self._salt, text.encode("utf-8", "surrogatepass"), hashlib.sha256
        ).hexdigest()

    def find(self, utterance: str, mark_result: str = "", typed: str = "") -> str | None:
        """Return the name of the entry that excludes this row, or None.

        `typed` is the utterance with its invisible characters, if it had some: entries from before
        they were folded have the digest of that text.
        """
        name = self._utterances.get(self.digest(utterance))
        if not name and not (typed or utterance).isascii():
            name = self._utterances.get(self._digest(normalise_as_typed(typed or utterance)))
        return name or (self._mark_results.get(mark_result) if mark_result else None)

    def take_out(
        self, items: Iterable[Record | Rejection], taken: set[str]
    ) -> Iterator[Record | Rejection]:
        """Replace each excluded item by a `forgotten` rejection without its text.

        The names of the entries that excluded an item are added to `taken`.
        """
        for item in items:
            if not self.rows:
                yield item
                continue
            if isinstance(item, Record):
                name = self.find(item.utterance, item.mark_result, item.typed_utterance)
            else:
                name = self._find_in_raw(item.raw) or self._find_ids(item.mark_result)
            if name is not None:
                taken.add(name)
                yield _refuse(item)
            elif isinstance(item, Rejection):
                # A text that is cut off at the end cannot be compared, so remove it.
                yield msgspec.structs.replace(item, raw=_cut_half_text(item.raw))
            else:
                yield item

    def _find_ids(self, mark_results: str) -> str | None:
        held = map(self._mark_results.get, mark_results.split(", "))
        return next(filter(None, held), None)

    def _find_in_raw(self, raw: str) -> str | None:
        """Like `find`, for an unusable row: compare every text in it."""
        whole = find_utterance(_parse(raw), DataConfig())
        for text in (whole or "", raw, *map(_unquote, _STRING.findall(raw))):
            for digest in (self.digest(text), self._digest(normalise_as_typed(text))):
                if name := self._utterances.get(digest):
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


def _parse(text: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def _unquote(text: str) -> str:
    value = _parse(text)
    return value if isinstance(value, str) else text


def _cut_half_text(raw: str) -> str:
    rest = _STRING.sub(lambda match: " " * len(match[0]), raw)
    half = _CUT_STRING.search(rest)
    return raw[: half.start()] if half else raw
