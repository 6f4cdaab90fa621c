"""From one parsed row of an export to its answer: which job, which stage, which annotator.

A row is an iTAG object (`data`, `label-<id>`, `label-<id>-check`, `-verify`, `-system`) or one
of the documents' training rows (`instruction`, `output`).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict

from intent_core.calls import Call, format_calls, parse_calls, repair_calls
from intent_core.config import DataConfig, Stage
from intent_core.errors import CallSyntaxError
from intent_core.results import (
    GivenAnswer,
    Reason,
    RowRefused,
    StageAnswers,
    name_type,
    read_stage,
    read_value,
    refuse_row,
    shorten,
)

ReportKind = Literal[
    "several-objects",
    "several-jobs",
    "stages-disagree",
    "annotators-disagree",
    "unreadable-result",
    "repaired",
    "rewritten",
]
AnswerStage = Stage | Literal["given"]

_LABEL_KEY = re.compile(r"label-(.+?)(?:-(check|verify|system))?", re.DOTALL)
_UNUSABLE_CHARACTER = re.compile(r"[\x00\ud800-\udfff]")


class Note(BaseModel):
    """Something about a usable row that a person should know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ReportKind
    message: str


class Refusal(BaseModel):
    """Why a row is unusable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Reason
    message: str


class Answer(BaseModel):
    """What a row says, and who says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    calls: tuple[Call, ...]
    stage: AnswerStage
    """The stage that was believed; `given` for a training row, which has none."""
    version: int | None = None
    """When the answer was given, in epoch milliseconds, where the export says so."""
    notes: tuple[Note, ...] = ()


def read_answer(row: object, config: DataConfig) -> Answer | Refusal:
    """Read one row; a row that cannot be used is a `Refusal`, not an exception."""
    try:
        return _read_row(row, config)
    except RowRefused as refused:
        reason, message = refused.args
        return Refusal(reason=reason, message=message)


def _read_row(row: object, config: DataConfig) -> Answer:
    if not isinstance(row, dict):
        refuse_row("not-an-object", f"a JSON object was expected, not {name_type(row)}")
    if "data" not in row and "instruction" in row:
        utterance = _read_utterance(row, "instruction")
        given = _choose(StageAnswers([read_value(row.get("output"), None)], [], []), config, [])
        return _finish(utterance, given, "given", [])
    utterance = _read_utterance(row.get("data"), config.utterance_field)
    notes: list[Note] = []
    labels = _choose_job(row, notes)
    _refuse_abandoned(row, labels)
    stage, answers = _choose_stage(labels, config)
    given = _choose(answers, config, notes)
    _note_disagreements(labels, stage, given, config, notes)
    return _finish(utterance, given, stage, notes)


def _read_utterance(fields: object, key: str) -> str:
    if not isinstance(fields, dict):
        refuse_row("no-utterance", f"'data' must be an object, not {name_type(fields)}")
    utterance = fields.get(key)
    if not isinstance(utterance, str):
        there = ", ".join(shorten(k) for k in fields) or "nothing"
        refuse_row(
            "no-utterance", f"no text under {key!r} (there is {there}); see data.utterance_field"
        )
    if not utterance.strip():
        refuse_row("empty-utterance", f"the text under {key!r} is empty")
    if _UNUSABLE_CHARACTER.search(utterance):
        refuse_row("bad-characters", f"NUL or half a surrogate pair in {shorten(utterance)}")
    return utterance.strip()


def _choose_job(row: Mapping[str, object], notes: list[Note]) -> dict[Stage, object]:
    """The labels by stage of the latest job: ids grow with time."""
    jobs: dict[str, dict[Stage, object]] = {}
    for key, label in row.items():
        match = _LABEL_KEY.fullmatch(key)
        if match and label is not None:
            jobs.setdefault(match[1], {})[cast(Stage, match[2] or "label")] = label
    if not jobs:
        refuse_row(
            "unlabelled", "no 'label-<id>' key holds a label: exported before it was labelled"
        )
    latest = max(jobs, key=lambda job: (len(job), job))
    if len(jobs) > 1:
        listed = ", ".join(shorten(job) for job in jobs)
        notes.append(Note(kind="several-jobs", message=f"jobs {listed}; {shorten(latest)} is read"))
    return jobs[latest]


def _refuse_abandoned(row: Mapping[str, object], labels: Mapping[Stage, object]) -> None:
    for place in (row, *labels.values()):
        if isinstance(place, dict) and place.get("abandonFlag") in (1, "1", "true", "True"):
            remark = place.get("abandonRemark") or row.get("abandonRemark")
            why = shorten(remark) if isinstance(remark, str) else "no remark"
            refuse_row("abandoned", f"discarded by the annotator: {why}")


def _choose_stage(labels: Mapping[Stage, object], config: DataConfig) -> tuple[Stage, StageAnswers]:
    titles: list[str] = []
    for stage in config.stages:
        answers = read_stage(labels.get(stage), config.question_title)
        if answers.given or answers.faults:
            return stage, answers
        titles += answers.titles
    if titles:
        there = ", ".join(dict.fromkeys(shorten(title) for title in titles))
        refuse_row(
            "no-answer",
            f"no question titled {config.question_title!r} (there is {there}); "
            "see data.question_title",
        )
    refuse_row("unlabelled", f"none of the stages {', '.join(config.stages)} holds a result")


def _choose(answers: StageAnswers, config: DataConfig, notes: list[Note]) -> GivenAnswer:
    """One answer out of several annotators'."""
    given = [one for one in answers.given if one.text.strip()]
    if not given and answers.faults:
        refuse_row("bad-label", answers.faults[0])
    if not given:
        refuse_row("empty-answer", f"the answer to {config.question_title!r} is empty")
    notes.extend(Note(kind="unreadable-result", message=fault) for fault in answers.faults)
    votes = Counter(_canonical(one.text) for one in given)
    (winner, most), *others = votes.most_common()
    if not others or config.annotators == "first":
        winner = _canonical(given[0].text)
    elif config.annotators == "reject" or others[0][1] == most:
        refuse_row("annotators-disagree", _show_votes(votes))
    if others:
        notes.append(Note(kind="annotators-disagree", message=_show_votes(votes)))
    return next(one for one in given if _canonical(one.text) == winner)


def _show_votes(votes: Counter[str]) -> str:
    return ", ".join(f"{shorten(text)} x{count}" for text, count in votes.most_common())


def _note_disagreements(
    labels: Mapping[Stage, object],
    winner: Stage,
    given: GivenAnswer,
    config: DataConfig,
    notes: list[Note],
) -> None:
    for stage in config.stages[config.stages.index(winner) + 1 :]:
        try:
            other = _choose(read_stage(labels.get(stage), config.question_title), config, [])
        except RowRefused:
            continue
        if _canonical(other.text) != _canonical(given.text):
            message = f"{winner} says {shorten(given.text)}, {stage} says {shorten(other.text)}"
            notes.append(Note(kind="stages-disagree", message=f"{message}; {winner} is believed"))


def _canonical(text: str) -> str:
    """What two spellings of one answer have in common."""
    try:
        return format_calls(parse_calls(text))
    except CallSyntaxError:
        return repair_calls(text) or text.strip()


def _finish(utterance: str, given: GivenAnswer, stage: AnswerStage, notes: list[Note]) -> Answer:
    try:
        calls = parse_calls(given.text)
    except CallSyntaxError as error:
        repaired = repair_calls(given.text)
        if repaired is None:
            refuse_row("bad-calls", str(error))
        calls = parse_calls(repaired)
        notes.append(Note(kind="repaired", message=f"final ')' added to {shorten(given.text)}"))
    else:
        canonical = format_calls(calls)
        if canonical != given.text:
            message = f"{shorten(given.text)} is written {shorten(canonical)}"
            notes.append(Note(kind="rewritten", message=message))
    return Answer(
        utterance=utterance, calls=calls, stage=stage, version=given.version, notes=tuple(notes)
    )
