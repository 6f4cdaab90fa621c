"""From one parsed row of an export to its answer: which job, which stage, which annotator.

A row is an iTAG object (`data`, `label-<id>`, `label-<id>-check`, `-verify`, `-system`) or one
of the documents' training rows (`instruction`, `output`).
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict

from intent_core.errors import CallSyntaxError
from intent_core.exports.extras import Tags, pick_tags, read_alternatives, read_tags
from intent_core.exports.label_repair import canonicalise_label, read_label
from intent_core.exports.label_results import (
    GivenAnswer,
    Reason,
    RowRefused,
    StageAnswers,
    is_set,
    name_type,
    read_stage,
    read_value,
    refuse_row,
    shorten,
)
from intent_core.recipe.choices import Leniency, Stage
from intent_core.recipe.config import DataConfig

ReportKind = Literal[
    Leniency, "stages-disagree", "annotators-disagree", "unreadable-result", "rewritten"
]
AnswerStage = Stage | Literal["given"]

_LABEL_KEY = re.compile(r"label-(.+?)(?:-(check|verify|system))?", re.DOTALL)
_MOST_SHOWN = 5
_MAX_ANSWER = 20_000
_UNUSABLE_CHARACTER = re.compile(r"[\x00\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What a byte that is no UTF-8 was decoded to.
_BROKEN_BYTE = re.compile(r"[\udc80-\udcff]")


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
    output: str
    """The calls in canonical form."""
    stage: AnswerStage
    """The stage that was believed; `given` for a training row, which has none."""
    version: int | None = None
    """When the answer was given, in epoch milliseconds, where the export says so."""
    notes: tuple[Note, ...] = ()
    alternatives: tuple[str, ...] = ()
    """Other calls that are as right."""
    tags: Tags = ()
    mark_result: str = ""
    """iTAG's id of the answer that was believed, where the export has one."""


def read_answer(
    row: object, config: DataConfig, slips: Sequence[tuple[Leniency, str]] = ()
) -> Answer | Refusal:
    """Read one row; a row that cannot be used is a `Refusal`, not an exception.

    `slips` are departures from the format that were seen in reading the row: (kind, message).
    """
    notes: list[Note] = []
    try:
        answer = _read_row(row, config, notes)
        for kind, message in slips:
            _tolerate(kind, message, config, notes)
    except RowRefused as refused:
        reason, message = refused.args
        return Refusal(reason=reason, message=message)
    return answer.model_copy(update={"notes": tuple(notes)}) if notes else answer


def _read_row(row: object, config: DataConfig, notes: list[Note]) -> Answer:
    if not isinstance(row, dict):
        refuse_row("not-an-object", f"a JSON object was expected, not {name_type(row)}")
    if "data" not in row and "instruction" in row:
        utterance = _read_utterance(row, "instruction")
        answers = StageAnswers([read_value(row.get("output"), None)], [], [])
        answer = _finish(utterance, _choose(answers, config, notes), "given", config, notes)
        extras = {"alternatives": read_alternatives(row), "tags": read_tags(row)}
        return answer.model_copy(update=extras)
    utterance = _read_utterance(row.get("data"), config.utterance_field)
    labels = _choose_job(row, config, notes)
    _refuse_abandoned(row, labels, config)
    stage, answers = _choose_stage(labels, config)
    given = _choose(answers, config, notes)
    _note_disagreements(labels, stage, given, config, notes)
    tags = pick_tags(row["data"], config.tag_fields)
    return _finish(utterance, given, stage, config, notes).model_copy(update={"tags": tags})


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
    _refuse_unusable(utterance, _UNUSABLE_CHARACTER)
    return utterance.strip()


def _refuse_unusable(text: str, pattern: re.Pattern[str]) -> None:
    found = pattern.search(text)
    if not found:
        return
    if _BROKEN_BYTE.match(found[0]):
        refuse_row("bad-encoding", f"not UTF-8: save the file as UTF-8 ({shorten(text)})")
    refuse_row("bad-characters", f"NUL or half a surrogate pair in {shorten(text)}")


@functools.lru_cache(maxsize=256)
def split_label_key(key: str) -> tuple[str, Stage] | None:
    """`label-17-check` -> `("17", "check")`; None for another key."""
    match = _LABEL_KEY.fullmatch(key)
    return (match[1], cast(Stage, match[2] or "label")) if match else None


def _choose_job(
    row: Mapping[str, object], config: DataConfig, notes: list[Note]
) -> dict[Stage, object]:
    """The labels by stage of the latest job that has results: ids grow with time."""
    jobs: dict[str, dict[Stage, object]] = {}
    for key, label in row.items():
        split = split_label_key(key)
        if split and label is not None:
            jobs.setdefault(split[0], {})[split[1]] = label
    if not jobs:
        refuse_row(
            "unlabelled", "no 'label-<id>' key holds a label: exported before it was labelled"
        )
    answered = [job for job, labels in jobs.items() if any(map(_has_results, labels.values()))]
    latest = max(answered or jobs, key=lambda job: (job.isdecimal(), len(job), job))
    if len(jobs) > 1:
        listed = ", ".join(shorten(job) for job in jobs)
        _tolerate("several-jobs", f"jobs {listed}; {shorten(latest)} is read", config, notes)
    return jobs[latest]


def _has_results(label: object) -> bool:
    return bool(label.get("results")) if isinstance(label, dict) else True


def _refuse_abandoned(
    row: Mapping[str, object], labels: Mapping[Stage, object], config: DataConfig
) -> None:
    for place in (row, *(labels.values() if config.abandoned == "any" else ())):
        if isinstance(place, dict) and is_set(place.get("abandonFlag")):
            remark = place.get("abandonRemark") or row.get("abandonRemark")
            why = shorten(remark) if isinstance(remark, str) else "no remark"
            refuse_row("abandoned", f"discarded by the annotator: {why}")


def _choose_stage(labels: Mapping[Stage, object], config: DataConfig) -> tuple[Stage, StageAnswers]:
    titles: list[str] = []
    for stage in _rank_stages(labels, config):
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


def _rank_stages(labels: Mapping[Stage, object], config: DataConfig) -> tuple[Stage, ...]:
    """The stages by how much they are believed; a correction marked as such outranks the label."""
    system = labels.get("system")
    fixed = isinstance(system, dict) and is_set(system.get("fixedFlag"))
    stages = config.stages
    if not fixed or config.fixed_flag == "ignore" or not {"system", "label"} <= set(stages):
        return stages
    if stages.index("system") < stages.index("label"):
        return stages
    others: list[Stage] = [stage for stage in stages if stage != "system"]
    others.insert(others.index("label"), "system")
    return tuple(others)


def _choose(answers: StageAnswers, config: DataConfig, notes: list[Note]) -> GivenAnswer:
    """One answer out of several annotators'."""
    given = [one for one in answers.given if one.text.strip()]
    if not given and answers.faults:
        refuse_row("bad-label", answers.faults[0])
    if not given:
        refuse_row("empty-answer", f"the answer to {config.question_title!r} is empty")
    if answers.faults:
        more = f" (and {len(answers.faults) - 1} more)" if len(answers.faults) > 1 else ""
        notes.append(Note(kind="unreadable-result", message=answers.faults[0] + more))
    votes = Counter(canonicalise_label(one.text) for one in given)
    (winner, most), *others = votes.most_common()
    if not others or config.annotators == "first":
        winner = canonicalise_label(given[0].text)
    elif config.annotators == "reject" or others[0][1] == most:
        refuse_row("annotators-disagree", _show_votes(votes))
    if others:
        notes.append(Note(kind="annotators-disagree", message=_show_votes(votes)))
    return next(one for one in given if canonicalise_label(one.text) == winner)


def _show_votes(votes: Counter[str]) -> str:
    shown = [f"{shorten(text)} x{count}" for text, count in votes.most_common(_MOST_SHOWN)]
    more = len(votes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _note_disagreements(
    labels: Mapping[Stage, object],
    winner: Stage,
    given: GivenAnswer,
    config: DataConfig,
    notes: list[Note],
) -> None:
    canonical = canonicalise_label(given.text)
    for stage in [stage for stage in config.stages if stage != winner]:
        said = _say(labels.get(stage), config)
        if said is not None and canonicalise_label(said) != canonical:
            message = f"{winner} says {shorten(given.text, 500)}, {stage} says {shorten(said, 500)}"
            notes.append(Note(kind="stages-disagree", message=f"{message}; {winner} is believed"))


def _say(label: object, config: DataConfig) -> str | None:
    """What a stage that was not believed says; None when it says nothing."""
    try:
        return _choose(read_stage(label, config.question_title), config, []).text
    except RowRefused as refused:
        reason, message = refused.args
        return str(message) if reason == "annotators-disagree" else None


def _finish(
    utterance: str, given: GivenAnswer, stage: AnswerStage, config: DataConfig, notes: list[Note]
) -> Answer:
    _refuse_unusable(given.text, _SURROGATE)
    if len(given.text) > _MAX_ANSWER:
        refuse_row("bad-calls", f"an answer of {len(given.text)} characters: {_MAX_ANSWER} at most")
    for slip in given.slips:
        _tolerate(slip, f"read {shorten(given.text)} from it", config, notes)
    try:
        label = read_label(given.text)
    except CallSyntaxError as error:
        refuse_row("bad-calls", str(error))
    for slip in label.slips:
        message = f"{shorten(given.text)} is read as {shorten(label.canonical)}"
        _tolerate(slip, message, config, notes)
    if label.canonical != given.text and not label.slips:
        message = f"{shorten(given.text)} is written {shorten(label.canonical)}"
        notes.append(Note(kind="rewritten", message=message))
    return Answer(
        utterance=utterance,
        output=label.canonical,
        stage=stage,
        version=given.version,
        mark_result=given.mark_result,
    )


def _tolerate(kind: Leniency, message: str, config: DataConfig, notes: list[Note]) -> None:
    """Note a departure from the format, or refuse the row if the recipe does not tolerate it."""
    if kind not in config.tolerate:
        refuse_row(kind, f"{message}; see data.tolerate")
    notes.append(Note(kind=kind, message=message))
