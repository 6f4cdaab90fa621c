"""Rows that look like the ones before them, read at a fraction of the cost.

An export's rows differ in few places. From a row that `reader.read_answer` has read without a
note this learns what its rows look like: the keys, and the text around the answer in a result.
A row of that look is decoded into just the fields that decide (msgspec), and its answer is cut
out from between the known texts. Whatever is not exactly as learned, disagrees, is abandoned or
needs repair is not read here: None sends it to `read_answer`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
import orjson

from intent_core.exports.formats.itag import split_label_key
from intent_core.exports.json_rows import RowRefused
from intent_core.exports.label_results import read_mark_result, read_stage, read_version
from intent_core.exports.records import Record
from intent_core.exports.row_answer import RowAnswer
from intent_core.language.calls import is_plain
from intent_core.recipe.choices import Stage
from intent_core.recipe.config import DataConfig

_MAX_KEYS = 16
# Rows of which no two look alike must not cost a lesson each.
_MAX_LESSONS = 32
_PROBE = "probe()"
# Within JSON text within a JSON string these stand for themselves.
_UNESCAPED = re.compile(r'[^\x00-\x1f"\\]+')

_BRACE = ord("{")

ReadRow = Callable[[bytes, int, int], Record | None]

_Flag = int | bool | None
_ORIGIN = (("version", str | int | None, None), ("mark_result", str | int | None, None))
_ORIGIN_KEYS = {"version": "Version", "mark_result": "MarkResultId"}


class UsualRows:
    """Reads usual rows, and learns from others what is usual."""

    def __init__(self, source: str, config: DataConfig) -> None:
        self.read: ReadRow = _read_nothing
        """The record of a row (line, its number, its offset), exactly as `read_answer` has it,
        or None. Another function after each lesson."""
        self._source = source
        self._config = config
        self._job = ""
        self._keys: dict[str, None] = {}
        self._lessons = 0

    def learn(self, line: bytes, row: object, answer: RowAnswer) -> None:
        """Take a row that was read without a note as the usual one from now on."""
        if self._lessons == _MAX_LESSONS or answer.notes or not isinstance(row, dict):
            return
        if self._config.tag_fields:
            return  # only `read_answer` knows of tags
        self._lessons += 1
        labels = self._learn_keys(row)
        if not labels or len(self._keys) > _MAX_KEYS or not _UNESCAPED.fullmatch(answer.output):
            return
        for result in (self._survey_result(), self._mark_result()):
            try:
                # Some keys cannot be field names: such a row is no lesson.
                decode = self._make_decoder(labels, result)
                (given,) = getattr(decode(line), f"label_{answer.stage}").results
            except (msgspec.MsgspecError, ValueError, AttributeError, TypeError, RecursionError):
                continue
            around = bytes(given.answer).split(answer.output.encode())
            if len(around) == 2 and all(around) and self._holds_answer(around, result):
                self.read = _make_reader(decode, tuple(labels), around, self._source)

    def _learn_keys(self, row: Iterable[str]) -> dict[Stage, str]:
        """The labels' keys seen of this row's job, by stage, the most believed first."""
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
        """Decode a row with these labels and no key that was never seen: it may be a label."""
        label = msgspec.defstruct(
            "Label",
            [
                ("results", list[result]),  # type: ignore[valid-type]
                ("abandonFlag", _Flag, None),
                ("fixedFlag", _Flag, None),
            ],
            gc=False,
        )
        names = {"utterance": self._config.utterance_field}
        data = msgspec.defstruct("Data", [("utterance", str)], rename=names, gc=False)
        fields: list[Any] = [("data", data), ("abandonFlag", _Flag, None)]
        fields += [(f"label_{stage}", label | None, None) for stage in labels]
        keys = {f"label_{stage}": key for stage, key in labels.items()}
        others = self._keys.keys() - {"data", "abandonFlag", *labels.values()}
        for number, key in enumerate(sorted(others)):
            fields.append((f"other_{number}", msgspec.Raw, msgspec.Raw()))
            keys[f"other_{number}"] = key
        row = msgspec.defstruct("Row", fields, rename=keys, forbid_unknown_fields=True, gc=False)
        return msgspec.json.Decoder(row).decode

    def _survey_result(self) -> type[msgspec.Struct]:
        """A result of the older format, if it answers our question."""
        title = Literal[self._config.question_title]  # type: ignore[name-defined]
        fields: list[Any] = [("answer", msgspec.Raw), ("title", title), *_ORIGIN]
        names = {"answer": "data", "title": "markTitle", **_ORIGIN_KEYS}
        return msgspec.defstruct("SurveyResult", fields, rename=names, gc=False)

    def _mark_result(self) -> type[msgspec.Struct]:
        """A result of the newer format; one that has `data` as well is none."""
        absent = ("data", msgspec.UnsetType, msgspec.UNSET)
        fields: list[Any] = [("answer", msgspec.Raw), absent, *_ORIGIN]
        names = {"answer": "MarkResult", **_ORIGIN_KEYS}
        return msgspec.defstruct("MarkResult", fields, rename=names, gc=False)

    def _holds_answer(self, around: list[bytes], result: type[msgspec.Struct]) -> bool:
        """Whether what stands between the two texts is the answer, and all of it."""
        before, after = around
        title = self._config.question_title
        key = result.__struct_encode_fields__[0]
        try:
            value = orjson.loads(before + _PROBE.encode() + after)
            if key == "MarkResult" and value == _PROBE:
                # The bare answer to a question whose title stands elsewhere.
                return False
            read = read_stage({"results": [{key: value, "markTitle": title}]}, title)
        except (ValueError, RowRefused):
            return False
        return [given.text for given in read.given] == [_PROBE] and not read.faults


def _read_nothing(line: bytes, number: int, offset: int) -> Record | None:
    return None


def _make_reader(
    decode: Callable[[bytes], Any], stages: Sequence[Stage], around: Sequence[bytes], source: str
) -> ReadRow:
    """Read rows that `decode` takes, with the answer between two texts. `stages`: best first."""
    before, after = around
    start, end = len(before), -len(after)
    fields_of = operator.attrgetter("abandonFlag", "data", *(f"label_{stage}" for stage in stages))

    # A closure, and flat: a large export passes here millions of times.
    def read(line: bytes, number: int, offset: int) -> Record | None:
        believed = None
        try:
            abandoned, data, *labels = fields_of(decode(line))
            for stage, label in zip(stages, labels, strict=False):
                if label is None:
                    continue
                (result,) = label.results
                if believed is None:
                    believed, answer, given = stage, result.answer, result
                elif result.answer != answer:
                    return None
                if label.abandonFlag or label.fixedFlag:
                    return None
            if believed is None or abandoned or line[0] != _BRACE:
                return None
            text = bytes(answer)
            output = text[start:end].decode()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        utterance = data.utterance
        if (
            not (text.startswith(before) and text.endswith(after) and is_plain(output))
            or not utterance
            or "\0" in utterance
            or utterance.strip() != utterance
        ):
            return None
        return Record(
            utterance,
            output,
            source,
            number,
            offset,
            believed,
            read_version(given.version),
            mark_result=read_mark_result(given.mark_result),
        )

    return read
