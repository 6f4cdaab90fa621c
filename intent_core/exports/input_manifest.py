"""Create an iTAG input manifest from utterances, for labelling.

The input is any file that the reader of exports reads, with or without labels, or text with one
utterance per line, or conversations. A conversation becomes one instruction, as in the PAI guide:
the user's turns, in order. An unusable line becomes an `UnusableLine`; repeats that differ only in
width, case or whitespace are counted. The manifest has one `{"data":{"instruction":"..."}}` per
line.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.exports.files.json_rows import (
    MAX_RAW,
    Row,
    RowRefused,
    name_type,
    refuse_row,
    shorten,
)
from intent_core.exports.files.sources import iter_rows
from intent_core.exports.formats import detect_format
from intent_core.exports.reader import fold_row
from intent_core.exports.records import MOST_LISTED
from intent_core.exports.row_answer import note_repeats, refuse_unusable
from intent_core.files import write_atomically
from intent_core.language.conversation import flatten_turns
from intent_core.language.invisible import strip_invisible
from intent_core.language.unknown_speakers import SpeakerSearch
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import DataConfig


class UnusableLine(BaseModel):
    """A line, or a row that starts on it, without a usable utterance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    """Name of the file; of a file in an archive `archive.zip/name`."""
    line: int
    reason: str
    raw: str
    """The first 2000 characters of the original text."""


class UtteranceReading(BaseModel):
    """The utterances and unusable lines of one file, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterances: tuple[str, ...]
    rejections: tuple[UnusableLine, ...]
    """At most `MOST_LISTED`."""
    num_rejections: int
    num_duplicates: int
    """Number of utterances left out because they repeat an earlier one."""


class _Collector:
    """Collects utterances and rejections; a line may be rejected because of later ones."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.rejections: list[UnusableLine] = []
        self.num_read = self.num_rejections = 0
        self._speakers: dict[str, str] = {}
        self._num_lines: Counter[str] = Counter()
        self._places: list[tuple[str, str, Row]] = []

    def keep(self, utterance: str, speaker: str, source: str, row: Row) -> None:
        """Keep an utterance; `speaker` is the unknown name that its line starts with, or ""."""
        key = normalise_utterance(utterance)
        self.num_read += 1
        self.kept.setdefault(key, utterance)
        if speaker:
            self._speakers.setdefault(key, speaker)
            self._num_lines[key] += 1
            if len(self._places) < MOST_LISTED:
                self._places.append((key, source, row))

    def reject(self, source: str, row: Row, reason: str) -> None:
        self.num_rejections += 1
        if len(self.rejections) < MOST_LISTED:
            raw = row.raw[:MAX_RAW].encode("utf-8", "replace").decode("utf-8")
            line = UnusableLine(source=source, line=row.line, reason=reason, raw=raw)
            self.rejections.append(line)

    def reject_speakers(self, unknown: Set[str]) -> None:
        """Reject the lines that start with one of these names."""
        rejected = {key for key, speaker in self._speakers.items() if speaker in unknown}
        if not rejected:
            return
        for key, source, row in self._places:
            if key in rejected:
                self.reject(source, row, _describe(self._speakers[key]))
                self.num_rejections -= 1
        num_lines = sum(self._num_lines[key] for key in rejected)
        self.num_read -= num_lines
        self.num_rejections += num_lines
        self.kept = {key: text for key, text in self.kept.items() if key not in rejected}
        self.rejections.sort(key=lambda rejection: (rejection.source, rejection.line))


def read_utterances(path: Path, config: DataConfig = DataConfig()) -> UtteranceReading:  # noqa: B008 - frozen
    """Read all utterances of a file.

    - Rows of every format, labelled or not, as an export has them: JSON lines, an array, CSV, TSV,
      gzip, zip. JSON lines and arrays can also contain texts.
    - Other files: one utterance per line. Lines up to the next empty line are one conversation if
      the first one starts with a speaker, unless each of them contains several turns.

    Conversations are flattened, except in rows of a labelling task, where the text under `data` is
    kept unchanged.

    Args:
        path: the file, in UTF-8, or UTF-16 with a byte order mark.
        config: the `data` section of the recipe; it names the field of the utterance and speakers.

    Raises:
        DataError: the file cannot be read or does not contain a usable utterance.
    """
    collector = _Collector()
    search = SpeakerSearch(config.speakers)
    for source, row in iter_rows(path, config, with_text=True):
        speaker = search.add(row.line, row.value) if isinstance(row.value, str) else ""
        try:
            utterance = _check(_find_utterance(row, config))
        except RowRefused as refused:
            collector.reject(source, row, refused.args[1])
        else:
            collector.keep(utterance, speaker, source, row)
    collector.reject_speakers(search.find_speakers())
    return _make_reading(path, collector)


def _make_reading(path: Path, collector: _Collector) -> UtteranceReading:
    rejections, utterances = collector.rejections, tuple(collector.kept.values())
    if not utterances:
        first = f" (line {rejections[0].line}: {rejections[0].reason})" if rejections else ""
        raise DataError(
            f"{path} does not contain a usable utterance{first}: write one utterance per line, in "
            "UTF-8"
        )
    return UtteranceReading(
        utterances=utterances,
        rejections=tuple(rejections),
        num_rejections=collector.num_rejections,
        num_duplicates=collector.num_read - len(utterances),
    )


def _describe(speaker: str) -> str:
    return (
        f"{shorten(speaker + ':')} looks like a speaker: add it to data.speakers.user or "
        "data.speakers.agent. If it belongs to the utterances, write them as CSV with the header "
        "'instruction'"
    )


def write_manifest(
    utterances: Iterable[str],
    path: Path,
    field: str = "instruction",
    prelabels: Sequence[Mapping[str, str]] = (),
) -> int:
    """Write an iTAG input manifest atomically and return its number of lines.

    Args:
        utterances: the utterances to label.
        path: the manifest to write.
        field: key of the utterance under `data`.
        prelabels: more fields of each utterance, in order (`prelabel.py`); empty for none.

    Raises:
        DataError: an utterance is empty or contains characters that `read_utterances` rejects.
    """
    lines = []
    for number, utterance in enumerate(utterances, 1):
        try:
            more = prelabels[number - 1] if prelabels else {}
            text = {field: _check(utterance)}
            row = {"data": {**text, **more, **text}}
        except RowRefused as refused:
            message = f"utterance {number} cannot be labelled: {refused.args[1]}"
            raise DataError(message) from refused
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    write_atomically(path, b"".join(lines))
    return len(lines)


def _find_utterance(row: Row, config: DataConfig) -> object:
    if row.fault:
        raise RowRefused(row.fault.reason, row.fault.message)
    if isinstance(row.value, str):
        return flatten_turns(row.value, config.speakers)
    if not isinstance(row.value, dict):
        refuse_row(
            "not-an-object",
            f"a row must be text or an object, not {name_type(row.value)}: correct it",
        )
    fields = fold_row(row.value)
    note_repeats(row.repeats, config, [])
    detected = detect_format(fields, config)
    utterance = detected.find_utterance(fields, config)
    if detected.is_prepared or not isinstance(utterance, str):
        return utterance
    return flatten_turns(utterance, config.speakers)


def _check(utterance: object) -> str:
    if not isinstance(utterance, str):
        refuse_row(
            "no-utterance", f"an utterance must be text, not {name_type(utterance)}: correct it"
        )
    refuse_unusable(utterance)
    if not strip_invisible(utterance).strip():
        refuse_row(
            "empty-utterance", "empty, or a conversation without a turn of the user: remove it"
        )
    return utterance
