"""iTAG rows: `data`, and labels under `label-<id>`, `label-<id>-check`, `-verify`, `-system`."""

import functools
import re
from collections.abc import Mapping
from typing import Any, cast

from intent_core.exports.annotators import AnswerOrigin, join_origins
from intent_core.exports.files.json_rows import (
    EXPORT_AGAIN,
    RowRefused,
    list_some,
    name_type,
    refuse_row,
    shorten,
)
from intent_core.exports.label_repair import canonicalise_label
from intent_core.exports.label_results import (
    GivenAnswer,
    StageAnswers,
    is_set,
    list_origins,
    read_questions,
    read_stage,
)
from intent_core.exports.row_answer import (
    PRELABEL,
    PRELABEL_MODEL,
    Note,
    RowAnswer,
    choose_answer,
    finish_answer,
    name_question,
    note_alpaca_keys,
    pick_tags,
    read_utterance,
    tolerate,
)
from intent_core.exports.template import compose_answers
from intent_core.language.calls import fold_label
from intent_core.recipe.choices import Stage
from intent_core.recipe.config import DataConfig

_LABEL_KEY = re.compile(r"label-(.+?)(?:-(check|verify|system))?", re.DOTALL)


def is_itag_row(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("data"), dict) or ("data" in row and "instruction" not in row)


def read_itag_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    """Read the answer of the latest job, from its preferred stage."""
    utterance = read_utterance(row.get("data"), config.utterance_field, notes)
    note_alpaca_keys(row["data"], config, notes)
    labels = _choose_job(row, config, notes)
    _refuse_abandoned(row, labels, config)
    stage, answers = _choose_stage(labels, config, notes)
    given = choose_answer(answers, config, notes, stage)
    _note_disagreements(labels, stage, given, config, notes)
    tags = pick_tags(row["data"], config.tag_fields)
    answer = finish_answer(utterance, given, stage, config, notes)
    if stage == "system" and row["data"].get(PRELABEL_MODEL):
        _refuse_prelabel(row["data"], labels, answer)
    return answer.model_copy(update={"tags": tags})


def find_itag_utterance(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return what is to be labelled: the text in `data`."""
    data = row.get("data")
    if not isinstance(data, dict):
        refuse_row(
            "no-utterance", f"'data' must be an object, not {name_type(data)}: {EXPORT_AGAIN}"
        )
    if config.utterance_field not in data:
        refuse_row(
            "no-utterance",
            f"the row has no key {config.utterance_field!r} under 'data'; it has "
            f"{list_some(data) or 'nothing'}. Set data.utterance_field to the key of the utterance",
        )
    return data[config.utterance_field]


def find_itag_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return the answer of the latest job, from its preferred stage."""
    stage, answers = _choose_stage(_choose_job(row, config, []), config, [])
    return choose_answer(answers, config, [], stage).text


def find_itag_origin(row: Mapping[str, Any], config: DataConfig) -> AnswerOrigin:
    """Return the annotators and ids of the answers of the latest job, from its preferred stage."""
    labels = _choose_job(row, config, [])
    stages = [list_origins(labels.get(stage)) for stage in _rank_stages(labels, config)]
    return join_origins(next(filter(any, stages), [AnswerOrigin()]))


@functools.lru_cache(maxsize=256)
def split_label_key(key: str) -> tuple[str, Stage] | None:
    """Return job and stage of a label key: `label-17-check` gives `("17", "check")`, others None.

    Args:
        key: a key of the row.
    """
    match = _LABEL_KEY.fullmatch(key)
    return (match[1], cast(Stage, match[2] or "label")) if match else None


def _choose_job(
    row: Mapping[str, object], config: DataConfig, notes: list[Note]
) -> dict[Stage, object]:
    """Return the labels, by stage, of the latest job with results; job ids increase over time."""
    jobs: dict[str, dict[Stage, object]] = {}
    for key, label in row.items():
        split = split_label_key(key)
        if split and label is not None:
            jobs.setdefault(split[0], {})[split[1]] = label
    if not jobs:
        refuse_row(
            "unlabelled",
            "the row has no label under a key 'label-<id>': label it, then export again",
        )
    answered = [job for job, labels in jobs.items() if any(map(_has_results, labels.values()))]
    latest = max(answered or jobs, key=lambda job: (job.isdecimal(), len(job), job))
    if len(jobs) > 1:
        listed = list_some(jobs)
        message = f"the row has labels of the jobs {listed}; used: {shorten(latest)}"
        tolerate("several-jobs", message, config, notes)
    return jobs[latest]


def _has_results(label: object) -> bool:
    return bool(label.get("results")) if isinstance(label, dict) else True


def _refuse_abandoned(
    row: Mapping[str, object], labels: Mapping[Stage, object], config: DataConfig
) -> None:
    for place in (row, *(labels.values() if config.abandoned == "any" else ())):
        if isinstance(place, dict) and is_set(place.get("abandonFlag")):
            remark = place.get("abandonRemark") or row.get("abandonRemark")
            why = f"with the remark {shorten(remark)}" if isinstance(remark, str) else "no remark"
            refuse_row(
                "abandoned",
                f"an annotator discarded the row ({why}); to use it, label it again in iTAG",
            )


def _choose_stage(
    labels: Mapping[Stage, object], config: DataConfig, notes: list[Note]
) -> tuple[Stage, StageAnswers]:
    """The first stage with an answer. A label that cannot be read gives way to the next stage; a
    review that cannot be read does not, since it may have corrected the label."""
    titles: list[str] = []
    faulty: list[tuple[Stage, StageAnswers]] = []
    for stage in _rank_stages(labels, config):
        answers = _read_answers(labels.get(stage), config)
        if answers.given:
            for passed, others in faulty:
                message = f"stage {passed} cannot be read ({others.faults[0]}); used: {stage}"
                notes.append(Note(kind="unreadable-result", message=message))
            return stage, answers
        if answers.faults:
            faulty.append((stage, answers))
            if stage in ("verify", "check"):
                break
        titles += answers.titles
    if faulty:
        return faulty[0]
    if titles:
        refuse_row(
            "no-answer",
            f"no question has the title {name_question(config)!r}; the titles are "
            f"{list_some(titles)}. Set data.question_title, or name the questions of the intent "
            "and of the slots in data.template",
        )
    refuse_row(
        "unlabelled",
        f"none of the stages {', '.join(config.stages)} contains a result: label the row, then "
        "export again",
    )


def _read_answers(label: object, config: DataConfig) -> StageAnswers:
    if config.template:
        return compose_answers(read_questions(label), config.template)
    return read_stage(label, config.question_title)


def _refuse_prelabel(
    data: Mapping[str, object], labels: Mapping[Stage, object], answer: RowAnswer
) -> None:
    """Refuse a row whose only result is the answer of the model that it was given as."""
    by_people = (label for stage, label in labels.items() if stage != "system")
    prelabel = data.get(PRELABEL)
    if isinstance(prelabel, str) and not any(map(_has_results, by_people)):
        given, offered = map(fold_label, (answer.output, canonicalise_label(prelabel)))
        if given == offered:
            refuse_row(
                "unlabelled",
                f"the only result, {shorten(answer.output)}, is the pre-label of the model "
                f"{data.get(PRELABEL_MODEL)!r}: label the row, then export again",
            )


def _rank_stages(labels: Mapping[Stage, object], config: DataConfig) -> tuple[Stage, ...]:
    """Return the stages in order of preference; a `fixedFlag` correction precedes the label."""
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


def _note_disagreements(
    labels: Mapping[Stage, object],
    winner: Stage,
    given: GivenAnswer,
    config: DataConfig,
    notes: list[Note],
) -> None:
    label = fold_label(canonicalise_label(given.text))
    for stage in [stage for stage in config.stages if stage != winner]:
        said = _say(labels.get(stage), config)
        if said is not None and fold_label(canonicalise_label(said)) != label:
            message = (
                f"stage {winner} has {shorten(given.text, 500)}, stage {stage} has "
                f"{shorten(said, 500)}; used: {winner}"
            )
            notes.append(Note(kind="stages-disagree", message=message))


def _say(label: object, config: DataConfig) -> str | None:
    """Return the answer of a stage that is not used; None without an answer."""
    try:
        return choose_answer(_read_answers(label, config), config, []).text
    except RowRefused as refused:
        reason, message = refused.args
        return str(message) if reason == "annotators-disagree" else None
