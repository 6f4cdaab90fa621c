"""Erasure requests (`intent forget`): exclude rows from all future datasets."""

import shlex

from pydantic import BaseModel, ConfigDict

from flows.lineage.trace import TracedModel, make_trace
from intent_core.datasets.provenance import name_example
from intent_core.errors import DataError
from intent_core.recipe.config import DataConfig
from tasks.datasets.erasure_list import add_entries, remove_entries
from tasks.datasets.export_line import Person, read_line, read_person
from tasks.datasets.row_index import (
    FoundRows,
    RowSought,
    TracedRow,
    find_examples,
    find_rows,
    list_datasets,
    parse_row,
)
from tasks.datasets.text_search import find_holders
from tasks.settings import Settings
from tasks.storage.step_results import get_store


class Forgotten(BaseModel):
    """New entries of the erasure list, models trained on the row, places that still contain it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new: tuple[str, ...]
    """New entries; empty if the list contained all of them."""
    rows: tuple[TracedRow, ...]
    models: tuple[TracedModel, ...]
    retrain: tuple[str, ...]
    """Commands that train models without the row."""
    held_by: tuple[str, ...]
    """Objects and files that contain the text."""
    mlflow_runs: tuple[str, ...]
    """MLflow runs whose files may contain the text."""
    not_known: tuple[str, ...]


def forget_row(settings: Settings, row: str, config: DataConfig) -> Forgotten:
    """Erase the utterance of `EXPORT:LINE`, as in the datasets and in the current export.

    Raises `DataError` if the line has no utterance, or had different ones at different times.
    """
    export, sought = parse_row(settings, row)
    rows = find_rows(get_store(settings), sought).rows
    people = {read_person(settings, traced) for traced in rows}
    people |= read_line(export, sought.line, config)
    names = {name_example(person.utterance) for person in people}
    if not names:
        raise DataError(
            f"{row} does not contain an utterance, and no dataset contains a row of it: check the "
            "line, or use --utterance TEXT"
        )
    if len(names) > 1:
        ids = ", ".join(sorted(person.mark_result or "no id" for person in people))
        raise DataError(
            f"{row} was {len(names)} different utterances at different times (MarkResultIds: "
            f"{ids}): choose one with --mark-result or --utterance"
        )
    return _forget(settings, people)


def forget_utterance(settings: Settings, utterance: str) -> Forgotten:
    """Erase an utterance in all exports, also if no dataset contains it yet."""
    if not utterance.strip():
        raise DataError("the utterance is empty")
    return _forget(settings, {Person(utterance, "")})


def forget_mark_result(settings: Settings, mark_result: str) -> Forgotten:
    """Erase an answer by its MarkResultId, and its utterance if a dataset contains it."""
    if not (mark_result.isascii() and mark_result.isalnum()):
        raise DataError(f"{mark_result!r} is not a MarkResultId: copy it from the export")
    rows = find_rows(get_store(settings), RowSought(mark_result=mark_result)).rows
    people = {read_person(settings, row) for row in rows}
    return _forget(settings, people or {Person("", mark_result)})


def take_back(settings: Settings, utterance: str, mark_result: str) -> list[str]:
    """Remove an utterance or a MarkResultId from the list; return the removed entries."""
    return remove_entries(get_store(settings), utterance, mark_result)


def _forget(settings: Settings, people: set[Person]) -> Forgotten:
    store = get_store(settings)
    new = [name for person in sorted(people) for name in add_entries(store, *person)]
    matches = FoundRows([], [])
    texts = {person.utterance for person in people if person.utterance}
    for example in {name_example(text) for text in texts}:
        matches.rows.extend(find_rows(store, RowSought(example=example)).rows)
        for dataset in list_datasets(store):
            held = find_examples(store, dataset, example)
            texts |= {match.instruction for _, match in held}
    trace = make_trace(settings, "", "row", matches)
    exports = {row.export for row in trace.rows}
    return Forgotten(
        new=tuple(dict.fromkeys(new)),
        rows=trace.rows,
        models=trace.models,
        retrain=tuple(
            dict.fromkeys(_write_command(model) for model in trace.models if model.learned)
        ),
        held_by=tuple(find_holders(settings, texts, exports)) if texts else (),
        mlflow_runs=tuple(m.lineage.mlflow_url for m in trace.models if m.lineage.mlflow_url),
        not_known=trace.not_known,
    )


def _write_command(model: TracedModel) -> str:
    lineage = model.lineage
    export = shlex.quote(lineage.export or lineage.export_uri or "EXPORT_URI")
    recipe = shlex.quote(lineage.recipe) if lineage.recipe else "RECIPE"
    changes = [
        f" --set {shlex.quote(f'{name}={value}')}" for name, value in lineage.overrides.items()
    ]
    return f"intent run {export} --recipe {recipe}{''.join(changes)}"
