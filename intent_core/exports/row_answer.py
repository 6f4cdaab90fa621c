"""Shared by all formats: choose one answer of a row, bring it to canonical form, collect notes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.errors import CallSyntaxError
from intent_core.exports.files.json_rows import (
    EXPORT_AGAIN,
    list_some,
    name_type,
    refuse_row,
    shorten,
)
from intent_core.exports.files.repeated_keys import RepeatedKey
from intent_core.exports.label_repair import canonicalise_label, read_label
from intent_core.exports.label_results import GivenAnswer, StageAnswers
from intent_core.language.calls import Argument, Call, fold_label, format_calls
from intent_core.language.invisible import list_invisible, strip_invisible
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.choices import Leniency, Stage
from intent_core.recipe.config import DataConfig

ReportKind = Literal[
    Leniency,
    "stages-disagree",
    "annotators-disagree",
    "unreadable-result",
    "rewritten",
    "invisible-characters",
    "unread-field",
    "named-value",
    "repeated-key",
]
AnswerStage = Stage | Literal["given"]

_MOST_SHOWN = 5
_MAX_ANSWER = 20_000
# So that a long label with a long utterance does not take time for each pair of them.
_MOST_NAMED = 50
_UNUSABLE_CHARACTER = re.compile(r"[\x00\ud800-\udfff]")
# A byte that is not valid UTF-8 was decoded to one of these (`surrogateescape`).
_BROKEN_BYTE = re.compile(r"[\udc80-\udcff]")
# What the reader uses, besides the keys that the recipe names and those of labels.
_READ_KEYS = {
    *("data", "instruction", "input", "history", "output", "alternatives", "tags", "abandonFlag"),
    *("fixedFlag", "results", "MarkResult", "MarkTitle", "markTitle", "annotations", "labels"),
    *("result", "from_name", "value", "choices", "was_cancelled", "label", "text", "messages"),
    *("conversations", "conversation", "role", "from", "content", "prompt", "predict"),
}
PRELABEL, PRELABEL_MODEL = "prelabel", "prelabel_model"
"""What `intent manifest --prelabel` writes next to an utterance; more keys start with the first."""
ALPACA_KEYS = ("input", "history", "system")
# A number, a date or nothing: no text for a model.
_NUMBER = re.compile(r"[\d\s.,:+\-/TZ]*")


class Note(BaseModel):
    """A note about a usable row, for the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ReportKind
    message: str


Tags = tuple[tuple[str, str], ...]


class RowAnswer(BaseModel):
    """The content of a row, and the stage it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    output: str
    """The calls in canonical form."""
    stage: AnswerStage
    """The stage of the used answer; `given` for a training row, which has no stages."""
    version: int | None = None
    """Time of the answer in epoch milliseconds, if the export states it."""
    notes: tuple[Note, ...] = ()
    alternatives: tuple[str, ...] = ()
    """Other correct calls in canonical form."""
    tags: Tags = ()
    mark_result: str = ""
    """iTAG's id of the used answer; "" if the export does not state it."""
    group: str = ""
    """Value of the key that `data.group_by` names."""
    annotator: str = ""
    """Who gave the used answer; "" if the export does not state it."""


def read_utterance(fields: object, key: str, notes: list[Note]) -> str:
    """Return the utterance without the invisible characters that carry no meaning; note them.

    Args:
        fields: the object that contains the utterance.
        key: the key of the utterance.
        notes: the notes of the row.

    Raises:
        RowRefused: there is no utterance, or it is not usable text.
    """
    if not isinstance(fields, dict):
        refuse_row(
            "no-utterance", f"'data' must be an object, not {name_type(fields)}: {EXPORT_AGAIN}"
        )
    utterance = fields.get(key)
    if key in fields and not isinstance(utterance, str):
        refuse_row(
            "no-utterance", f"{key!r} must be text, not {name_type(utterance)}: {EXPORT_AGAIN}"
        )
    if not isinstance(utterance, str):
        there = list_some(fields) or "nothing"
        refuse_row(
            "no-utterance",
            f"the row has no text under the key {key!r}; it has {there}. Set "
            "data.utterance_field to the key of the utterance",
        )
    refuse_unusable(utterance)
    visible = remove_invisible(utterance, "utterance", notes).strip()
    if not visible:
        refuse_row(
            "empty-utterance", f"the utterance under the key {key!r} is empty: remove the row"
        )
    return visible


def remove_invisible(text: str, what: str, notes: list[Note]) -> str:
    """Return the text without invisible characters; note which there were.

    Args:
        text: an utterance or a label.
        what: the name of the text in the note.
        notes: the notes of the row.
    """
    visible = strip_invisible(text)
    if visible != text:
        listed = ", ".join(list_invisible(text)[:_MOST_SHOWN])
        message = f"removed from the {what} {shorten(visible)}: {listed}"
        notes.append(Note(kind="invisible-characters", message=message))
    return visible


def refuse_unusable(text: str) -> None:
    """Refuse a text with a NUL character, a surrogate or a byte that is not UTF-8.

    Args:
        text: an utterance or a label.

    Raises:
        RowRefused: the text has one.
    """
    match = _UNUSABLE_CHARACTER.search(text)
    if not match:
        return
    if _BROKEN_BYTE.match(match[0]):
        refuse_row("bad-encoding", f"{shorten(text)} is not UTF-8: save the file as UTF-8")
    refuse_row(
        "bad-characters",
        f"{shorten(text)} contains a NUL character or an unpaired UTF-16 surrogate: remove it",
    )


def choose_answer(
    answers: StageAnswers, config: DataConfig, notes: list[Note], stage: AnswerStage = "given"
) -> GivenAnswer:
    """Choose one of the annotators' answers as `data.annotators` states, or reject the row."""
    given = [answer for answer in answers.given if strip_invisible(answer.text).strip()]
    longest = max((len(answer.text) for answer in given), default=0)
    if longest > _MAX_ANSWER:
        # Before anything parses it: reading a label takes time for each of its characters.
        refuse_row(
            "bad-calls",
            f"an answer has {longest} characters; the maximum is {_MAX_ANSWER}: shorten it",
        )
    if not given and answers.faults:
        refuse_row("bad-label", answers.faults[0])
    if not given:
        refuse_row(
            "empty-answer",
            "the answer is empty: label the row"
            if stage == "given"
            else f"the answer of the stage {stage} to the question {name_question(config)!r} is "
            "empty: label the row",
        )
    if answers.faults:
        more = f" (and {len(answers.faults) - 1} more)" if len(answers.faults) > 1 else ""
        notes.append(Note(kind="unreadable-result", message=answers.faults[0] + more))
    if answers.unread:
        message = f"answers to {list_some(answers.unread)} are not read; see data.template"
        notes.append(Note(kind="unread-field", message=message))
    texts = [canonicalise_label(answer.text) for answer in given]
    # Of labels that differ only in the order of named values, the first one is used.
    first: dict[str, str] = {}
    labels = [first.setdefault(fold_label(text), text) for text in texts]
    votes = Counter(labels)
    shown = _show_votes(votes, zip(labels, given, strict=True)) if len(votes) > 1 else ""
    (winner, most), *others = votes.most_common()
    if not others or config.annotators == "first":
        winner = labels[0]
    elif config.annotators == "reject" or others[0][1] == most:
        refuse_row("annotators-disagree", f"the annotators gave {shown}: agree on one answer")
    if others:
        message = f"the annotators gave {shown}; used: {shorten(winner)}"
        notes.append(Note(kind="annotators-disagree", message=message))
    return given[labels.index(winner)]


def name_question(config: DataConfig) -> str:
    """Return the title of the question that has the calls, or the intent.

    Args:
        config: the `data` section of the recipe.
    """
    return config.template.intent if config.template else config.question_title


def _show_votes(votes: Counter[str], given: Iterable[tuple[str, GivenAnswer]]) -> str:
    people: dict[str, list[str]] = {}
    for label, answer in given:
        if answer.annotator:
            people.setdefault(label, []).append(answer.annotator)
    shown = [
        f"{shorten(label)} x{count}{_name_people(people.get(label, []))}"
        for label, count in votes.most_common(_MOST_SHOWN)
    ]
    more = len(votes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _name_people(people: list[str]) -> str:
    return f" ({list_some(people, _MOST_SHOWN)})" if people else ""


def finish_answer(
    utterance: str, given: GivenAnswer, stage: AnswerStage, config: DataConfig, notes: list[Note]
) -> RowAnswer:
    refuse_unusable(given.text)
    given = given._replace(text=remove_invisible(given.text, "label", notes))
    for slip in given.slips:
        tolerate(slip, f"the answer was read as {shorten(given.text)}", config, notes)
    try:
        label = read_label(given.text)
    except CallSyntaxError as error:
        refuse_row("bad-calls", f"{error}: correct the label")
    refuse_unusable("".join(argument.value for call in label.calls for argument in call.arguments))
    for slip in label.slips:
        message = f"{shorten(given.text)} was read as {shorten(label.canonical)}"
        tolerate(slip, message, config, notes)
    _note_named_values(utterance, label.calls, notes)
    if label.canonical != given.text and not label.slips:
        message = f"{shorten(given.text)} was rewritten as {shorten(label.canonical)}"
        notes.append(Note(kind="rewritten", message=message))
    return RowAnswer(
        utterance=utterance,
        output=label.canonical,
        stage=stage,
        version=given.version,
        mark_result=given.mark_result,
        annotator=given.annotator,
    )


def note_unread(row: Mapping[str, object], read: Iterable[str | None], notes: list[Note]) -> None:
    """Note the keys of a row that have text and are not read.

    Args:
        row: an object of the row.
        read: the keys that are read, or have no text for a model.
        notes: the notes of the row.
    """
    known = set(read)
    unread = [
        key
        for key, value in row.items()
        if key not in known and key.partition("_")[0] != PRELABEL and _has_text(value)
    ]
    if unread:
        message = f"text under {list_some(unread)} is not read, e.g. {_show(row[unread[0]])}"
        notes.append(Note(kind="unread-field", message=message))


def note_alpaca_keys(fields: Mapping[str, object], config: DataConfig, notes: list[Note]) -> None:
    """Note text that belongs to an Alpaca row's instruction, in the data of a labelling task.

    Args:
        fields: the data of the row.
        config: the `data` section of the recipe.
        notes: the notes of the row.
    """
    if config.utterance_field == "instruction":
        there = {key: fields[key] for key in ALPACA_KEYS if key in fields}
        note_unread(there, (*config.tag_fields, config.group_by), notes)


def _show(value: object) -> str:
    return shorten(value if isinstance(value, str) else repr(value))


def _has_text(value: object) -> bool:
    """Whether a value is, or contains, text. Not recursive: a row can be nested deeply."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and not _NUMBER.fullmatch(item):
            return True
        if isinstance(item, list | dict):
            pending.extend(item.values() if isinstance(item, dict) else item)
    return False


def _note_named_values(utterance: str, calls: Iterable[Call], notes: list[Note]) -> None:
    """Note values that were split at an equals sign and were probably meant as one."""
    named = [argument for call in calls for argument in call.arguments if argument.name]
    said = _join(utterance) if named else ""
    for argument in named[:_MOST_NAMED]:
        name, value = argument.name or "", argument.value
        if name[0].isupper() or _join(f"{name}={value}") in said:
            whole = format_calls([Call(intent="x", arguments=(Argument(value=f"{name}={value}"),))])
            message = (
                f"{shorten(value)} was read as the value of the slot {shorten(name)}; if both are "
                f"one value, write it in quotes: {whole[2:-1]}"
            )
            notes.append(Note(kind="named-value", message=message))


def _join(text: str) -> str:
    return normalise_utterance(text).replace(" ", "")


def tolerate(kind: Leniency, message: str, config: DataConfig, notes: list[Note]) -> None:
    """Note a deviation from the format, or reject the row if `data.tolerate` does not list it."""
    if kind not in config.tolerate:
        refuse_row(kind, f"{message}: correct the row, or add {kind!r} to data.tolerate")
    notes.append(Note(kind=kind, message=message))


def find_group(row: Mapping[str, object], config: DataConfig) -> str:
    """Return the value of the key that `data.group_by` names; "" if the row does not have it.

    Args:
        row: one JSON object, with the key in it, in its `data` or in its `tags`.
        config: the `data` section of the recipe.

    Raises:
        RowRefused: the value is not text or a number.
    """
    if config.group_by is None:
        return ""
    for fields in (row.get("data"), row, row.get("tags")):
        if isinstance(fields, dict) and fields.get(config.group_by) is not None:
            ((_, group),) = pick_tags(fields, [config.group_by])
            return group.strip()
    return ""


def note_repeats(repeats: Iterable[RepeatedKey], config: DataConfig, notes: list[Note]) -> None:
    """Note keys that the row has twice.

    Args:
        repeats: the repeated keys.
        config: the `data` section of the recipe.
        notes: the notes of the row.

    Raises:
        RowRefused: the values of a key that is read differ.
    """
    named = {config.utterance_field, config.question_title, config.group_by, *config.tag_fields}
    for repeat in repeats:
        kept, lost = map(_show, repeat.values)
        key = shorten(repeat.key)
        is_read = repeat.key in _READ_KEYS | named or repeat.key.startswith("label-")
        if is_read and not repeat.is_equal:
            refuse_row(
                "repeated-key",
                f"the key {key} occurs more than once, with {lost} and {kept}: keep the right one",
            )
        values = kept if repeat.is_equal else f"{lost} and {kept}; used: {kept}"
        message = f"the key {key} occurs more than once, with {values}"
        notes.append(Note(kind="repeated-key", message=message))


def pick_tags(fields: Mapping[str, object], names: Iterable[str]) -> Tags:
    """Return the named fields as tags, sorted by name; fields that the row lacks are skipped."""
    tags = []
    for name in sorted(names):
        value = fields.get(name)
        if isinstance(value, str | int | float | bool):
            tags.append((strip_invisible(name), strip_invisible(str(value))))
        elif value is not None:
            refuse_row(
                "not-an-object",
                f"tag {shorten(name)} must be text, not {name_type(value)}: correct it",
            )
    return tuple(tags)
