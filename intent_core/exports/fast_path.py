"""Read rows that have the same layout as earlier rows, at a fraction of the cost.

The rows of an export differ in few places. From a row that `reader.read_answer` read without a
note, `UsualRows` learns the layout: the keys, and the text around the answer in a result. A row
with this layout is decoded into the relevant fields only (msgspec), and its answer is cut out
between the known texts. For any other row, and for one whose stages disagree, that is abandoned or
that needs repair, the result is None, and the caller uses `read_answer`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
import orjson

from intent_core.exports.annotators import ITAG_KEYS, read_annotator
from intent_core.exports.files.json_rows import RowRefused
from intent_core.exports.formats.itag import split_label_key
from intent_core.exports.label_results import read_mark_result, read_stage, read_version
from intent_core.exports.records import Record
from intent_core.exports.row_answer import ALPACA_KEYS, PRELABEL_MODEL, RowAnswer
from intent_core.exports.typed_quotes import may_have_typed_quotes
from intent_core.language.calls import is_ordinary, is_plain
from intent_core.language.invisible import may_have_invisible
from intent_core.recipe.choices import Stage
from intent_core.recipe.config import DataConfig

_MAX_KEYS = 16
# Limit, so that an export in which every row has another layout does not learn from each.
_MAX_LESSONS = 32
_PROBE = "probe()"
# Characters that need no escape in JSON inside a JSON string.
_UNESCAPED = re.compile(r'[^\x00-\x1f"\\]+')
# Within a word, where no quote begins or ends.
_APOSTROPHE = re.compile(r"(?<=\w)[’'](?=\w)")

_BRACE = ord("{")

ReadRow = Callable[[bytes, int, int], Record | None]

_Flag = int | bool | None
_NoText = Literal[""] | None
_MARK_RESULT = ("mark_result", str | int | None, None)
_VERSION = ("version", str | int | None, None)
_ORIGIN_KEYS = {"version": "Version", "mark_result": "MarkResultId"}


class _Utterance:
    """Represents the text of an utterance, which `UsualRows` has."""


_TAKEN = _Utterance()


class _Counts:
    """Counts of what was read in a block, and the text that each answer has once."""

    num_stages = num_missing = 0
    needle = b""
    num_before = num_answers_before = 0
    """Rows of the block that were read with an earlier layout, and the stages that it has."""
    is_mixed = False
    """Whether the text changed within the block."""

    def change_layout(self, needle: bytes, num_stages: int, num_read: int) -> None:
        """Count with another layout, after so many rows of the block."""
        self.is_mixed |= num_read > 0 and needle != self.needle
        self.num_answers_before += (num_read - self.num_before) * self.num_stages
        self.num_before = num_read
        self.needle, self.num_stages = needle, num_stages

    def count_answers(self, num_read: int) -> int:
        """Return how many answers the rows of the block have that were read."""
        num_answers = self.num_answers_before + (num_read - self.num_before) * self.num_stages
        return num_answers - self.num_missing


class UsualRows:
    """Reads rows with a known layout, and learns the layout from other rows."""

    def __init__(self, source: str, config: DataConfig) -> None:
        self.read: ReadRow = _read_nothing
        """Function of (line, its number, its offset) that returns the same record as `read_answer`,
        or None. Replaced when a layout is learned."""
        self._counts = _Counts()
        self._texts: list[object] = []
        self._source = source
        self._config = config
        self._job = ""
        self._keys: dict[str, None] = {}
        self._lessons = 0

    def learn(self, line: bytes, row: object, answer: RowAnswer, num_read: int = 0) -> None:
        """Learn the layout of a row; ignored if the row has notes.

        Args:
            line: the row.
            row: its parsed value.
            answer: what `read_answer` gave for it.
            num_read: how many rows were read since `begin_block`.
        """
        if self._lessons == _MAX_LESSONS or answer.notes or not isinstance(row, dict):
            return
        if self._config.tag_fields or self._config.group_by:
            return  # only `read_answer` supports them
        self._lessons += 1
        labels = self._learn_keys(row)
        if not labels or len(self._keys) > _MAX_KEYS or not _UNESCAPED.fullmatch(answer.output):
            return
        used = next((key for stage, key in labels.items() if stage == answer.stage), "")
        person = _find_person_key(row.get(used))
        for result in (self._survey_result(person), self._mark_result(person)):
            try:
                # Some keys cannot be field names; such a layout is not learned.
                decode = self._make_decoder(labels, result)
                (given,) = getattr(decode(line), f"label_{answer.stage}").results
            except (msgspec.MsgspecError, ValueError, AttributeError, TypeError, RecursionError):
                continue
            around = bytes(given.answer).split(answer.output.encode())
            if len(around) == 2 and all(around) and self._holds_answer(around, result):
                self._use(line, decode, tuple(labels), around, person, result, num_read)

    def begin_block(self) -> None:
        """Start counting the rows that are read."""
        counts = self._counts
        counts.num_missing = counts.num_before = counts.num_answers_before = 0
        counts.is_mixed = False

    def may_repeat_keys(self, block: bytes, others: Iterable[bytes], num_read: int) -> bool:
        """Return whether a row read since `begin_block` may have a key twice.

        That is the key of an answer, or one around it. Keys of utterances are seen in each row.

        Args:
            block: the lines.
            others: those of them that were not read here.
            num_read: how many were.
        """
        counts, rest = self._counts, b"".join(others)
        if not num_read or counts.is_mixed:
            return num_read > 0
        num_seen = block.count(counts.needle) - rest.count(counts.needle)
        return num_seen != counts.count_answers(num_read)

    def _use(
        self,
        line: bytes,
        decode: Callable[[bytes], Any],
        stages: tuple[Stage, ...],
        around: list[bytes],
        person: str,
        result: type[msgspec.Struct],
        num_read: int,
    ) -> None:
        """Use a layout, if the keys of answers can be counted in its text."""
        row = decode(line)
        num_answers = sum(getattr(row, f"label_{stage}") is not None for stage in stages)
        answer_key = _name_keys(result)["answer"]
        needle = _find_needle(line, answer_key, around[0], num_answers)
        if not needle:
            return
        counts, texts = self._counts, self._texts
        counts.change_layout(needle, len(stages), num_read)
        self.read = _make_reader(decode, stages, around, self._source, person, counts, texts)

    def _learn_keys(self, row: Iterable[str]) -> dict[Stage, str]:
        """Return the label keys of this row's job by stage, in the order of `data.stages`."""
        jobs = {split[0] for key in row if (split := split_label_key(key))}
        if len(jobs) != 1:
            return {}
        if jobs != {self._job}:
            (self._job,) = jobs
            self._keys = {}
        self._keys |= dict.fromkeys(row)
        by_stage = {split[1]: key for key in self._keys if (split := split_label_key(key))}
        if by_stage.keys() - set(self._config.stages):
            return {}
        return {stage: by_stage[stage] for stage in self._config.stages if stage in by_stage}

    def _make_decoder(
        self, labels: dict[Stage, str], result: type[msgspec.Struct]
    ) -> Callable[[bytes], Any]:
        """Return a decoder for rows with these labels; it refuses unseen keys, possible labels."""
        label = msgspec.defstruct(
            "Label",
            [
                ("fixedFlag", _Flag, None),
                ("results", list[result]),  # type: ignore[valid-type]
                ("abandonFlag", _Flag, None),
            ],
            kw_only=True,
            gc=False,
        )
        names = {"utterance": self._config.utterance_field}
        # Text under these keys is reported, so such a row is not a usual one.
        noted = ALPACA_KEYS if self._config.utterance_field == "instruction" else ()
        inner: list[Any] = [("utterance", _Utterance), *((key, _NoText, None) for key in noted)]
        if "system" in labels:
            inner.append((PRELABEL_MODEL, Any, None))
        data = msgspec.defstruct("Data", inner, rename=names, gc=False)
        fields: list[Any] = [("data", data), ("abandonFlag", _Flag, None)]
        fields += [(f"label_{stage}", label | None, None) for stage in labels]
        keys = {f"label_{stage}": key for stage, key in labels.items()}
        others = self._keys.keys() - {"data", "abandonFlag", *labels.values()}
        for number, key in enumerate(sorted(others)):
            fields.append((f"other_{number}", msgspec.Raw, msgspec.Raw()))
            keys[f"other_{number}"] = key
        # A key is found fastest in the order of the row.
        order = {key: place for place, key in enumerate(self._keys)}
        fields.sort(key=lambda field: order.get(keys.get(field[0], field[0]), len(order)))
        row = msgspec.defstruct(
            "Row", fields, rename=keys, forbid_unknown_fields=True, kw_only=True, gc=False
        )
        texts = self._texts

        # Called for each occurrence of the key, also where an object has it twice.
        def take(_: type, text: object) -> _Utterance:
            texts.append(text)
            return _TAKEN

        return msgspec.json.Decoder(row, dec_hook=take).decode

    def _survey_result(self, person: str) -> type[msgspec.Struct]:
        """Return the type of a result in the older format, for our question's title."""
        title = Literal[self._config.question_title]  # type: ignore[name-defined]
        people, keys = _name_people(person)
        fields: list[Any] = [
            ("answer", msgspec.Raw),
            ("title", title),
            _MARK_RESULT,
            _VERSION,
            *people,
        ]
        names = {"answer": "data", "title": "markTitle", **_ORIGIN_KEYS, **keys}
        return msgspec.defstruct("SurveyResult", fields, rename=names, gc=False)

    def _mark_result(self, person: str) -> type[msgspec.Struct]:
        """Return the type of a result in the newer format, which does not have `data`."""
        absent = ("data", msgspec.UnsetType, msgspec.UNSET)
        people, keys = _name_people(person)
        fields: list[Any] = [_MARK_RESULT, ("answer", msgspec.Raw), _VERSION, absent, *people]
        names = {"answer": "MarkResult", **_ORIGIN_KEYS, **keys}
        return msgspec.defstruct("MarkResult", fields, rename=names, kw_only=True, gc=False)

    def _holds_answer(self, around: list[bytes], result: type[msgspec.Struct]) -> bool:
        """Return whether the text between `around` is the answer, the whole answer."""
        before, after = around
        title = self._config.question_title
        key = _name_keys(result)["answer"]
        try:
            value = orjson.loads(before + _PROBE.encode() + after)
            if key == "MarkResult" and value == _PROBE:
                # A bare answer: its question's title is in another field.
                return False
            read = read_stage({"results": [{key: value, "markTitle": title}]}, title)
        except (ValueError, RowRefused):
            return False
        return [given.text for given in read.given] == [_PROBE] and not read.faults


def _name_keys(result: type[msgspec.Struct]) -> dict[str, str]:
    return dict(zip(result.__struct_fields__, result.__struct_encode_fields__, strict=True))


def _find_needle(line: bytes, key: str, value: bytes, count: int) -> bytes:
    """Return the text of a key, with the start of its value, if the line has it so many times."""
    name = orjson.dumps(key)
    needles = [name + b":" + value, name + b": " + value, name]
    return next((needle for needle in needles if line.count(needle) == count), b"")


def _find_person_key(label: object) -> str:
    """Return the key that names the annotator in a stage's only result; "" without one."""
    results = label.get("results") if isinstance(label, dict) else None
    result = results[0] if isinstance(results, list) and results else None
    named = (
        key for key in ITAG_KEYS if isinstance(result, dict) and read_annotator(result.get(key))
    )
    return next(named, "")


def _name_people(person: str) -> tuple[list[Any], dict[str, str]]:
    """Return the fields of a result for its annotator, and their keys; refuse a better key."""
    better = ITAG_KEYS[: ITAG_KEYS.index(person)] if person else ITAG_KEYS
    keys = {f"person_{number}": key for number, key in enumerate(better)}
    fields: list[Any] = [(name, msgspec.UnsetType, msgspec.UNSET) for name in keys]
    if person:
        fields.append(("person", str | int, ""))
    return fields, keys | ({"person": person} if person else {})


def _read_nothing(line: bytes, number: int, offset: int) -> Record | None:
    return None


def _make_reader(
    decode: Callable[[bytes], Any],
    stages: Sequence[Stage],
    around: Sequence[bytes],
    source: str,
    person: str,
    counts: _Counts,
    texts: list[object],
) -> ReadRow:
    """Return a reader for rows that `decode` accepts; `around` are the texts around the answer."""
    before, after = around
    start, end = len(before), -len(after)
    fields_of = operator.attrgetter("abandonFlag", "data", *(f"label_{stage}" for stage in stages))

    label_of = operator.attrgetter("results", "abandonFlag", "fixedFlag")

    # A closure without helper calls, because it runs millions of times for a large export.
    def read(line: bytes, number: int, offset: int) -> Record | None:
        believed, num_missing = None, 0  # the place of the first stage
        texts.clear()
        try:
            abandoned, data, *labels = fields_of(decode(line))
            (utterance,) = texts
            for label in labels:
                if label is None:
                    num_missing += 1
                    continue
                (result,), is_abandoned, is_fixed = label_of(label)
                if is_abandoned or is_fixed:
                    return None
                if believed is None:
                    believed, answer, given = num_missing, result.answer, result
                elif result.answer != answer:
                    return None
            if believed is None or abandoned or line[0] != _BRACE or type(utterance) is not str:
                return None
            text = bytes(answer)
            output = text[start:end].decode()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        annotator = read_annotator(given.person) if person else ""
        if (
            not (text.startswith(before) and text.endswith(after))
            or not utterance
            or (person and not annotator)
            or "\0" in utterance
            or utterance.strip() != utterance
            or (not utterance.isascii() and may_have_invisible(utterance))
            or not (
                is_ordinary(output)
                or (is_plain(output) and not may_have_typed_quotes(_APOSTROPHE.sub("", output)))
            )
        ):
            return None
        stage = stages[believed]
        if stage == "system" and data.prelabel_model:
            return None
        if num_missing:
            counts.num_missing += num_missing
        # What nearly all rows have needs no call.
        version, mark_result = given.version, given.mark_result
        if type(version) is str and len(version) == 13 and version.isascii() and version.isdigit():
            version = int(version)
        else:
            version = read_version(version)
        if not (type(mark_result) is str and mark_result.isascii() and mark_result.isalnum()) or (
            len(mark_result) > 32
        ):
            mark_result = read_mark_result(mark_result)
        return Record(
            utterance,
            output,
            source,
            number,
            offset,
            stage,
            version,
            mark_result=mark_result,
            annotator=annotator,
        )

    return read
