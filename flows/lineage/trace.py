"""Lineage (`intent trace`): from an answer to its model and data, and from a row to models."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from intent_core.datasets.provenance import name_example
from intent_core.errors import ConfigError, DataError, TrackingError
from intent_core.serving.access.aliases import is_content_name
from intent_core.serving.protocol.response_ids import parse_response_id
from tasks.datasets.row_index import FoundRows, RowSought, TracedRow, find_rows, parse_row
from tasks.serving.targets import open_target
from tasks.settings import Settings
from tasks.storage.step_results import get_store
from tasks.tracking.lineage import ModelLineage, ask_registry, find_model, list_models

_ID_PREFIXES = ("chatcmpl-", "cmpl-")
_LEARNED = ("train", "validation")


class TracedModel(BaseModel):
    """A model, where it came from, and whether it is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lineage: ModelLineage
    served: Literal["now", "before", ""]
    split: str = ""
    """Split of the row in the model's dataset; empty if no row was traced."""

    @property
    def learned(self) -> bool:
        """Whether the model was trained or selected on the row, not only tested."""
        return self.split in _LEARNED


class Trace(BaseModel):
    """The result of a trace; `not_known` lists the lookups that failed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    kind: Literal["response", "model", "utterance", "row"]
    rows: tuple[TracedRow, ...] = ()
    models: tuple[TracedModel, ...] = ()
    not_known: tuple[str, ...] = ()


def trace(settings: Settings, what: str) -> Trace:
    """Trace a response ID, a model's content name or an utterance.

    Raises `DataError` if the store does not contain it, `ConfigError` for an ID without a model.
    """
    named = parse_response_id(what)
    if named is None and what.startswith(_ID_PREFIXES):
        raise ConfigError(
            f"{what!r} does not contain a model name; it was issued by another server or by an "
            "older version. The access log of an older version has the model of each request"
        )
    if named is None and not is_content_name(what):
        return trace_utterance(settings, what)
    name = named.model if named else what
    lineage = find_model(get_store(settings), name)
    if lineage is None:
        raise DataError(
            f"model {name!r} not found in {settings.store_uri}: set INTENT_STORE to the store of "
            "the server that answered" + (", and check the ID" if named else "")
        )
    model, not_known = complete(settings, lineage)
    if named and named.version:
        # The version at the time of the answer; the registry may have another for these weights.
        model = model.model_copy(update={"version": named.version})
    return Trace(
        asked=what,
        kind="response" if named else "model",
        models=tuple(_mark_served(settings, [TracedModel(lineage=model, served="")])),
        not_known=tuple(not_known),
    )


def trace_utterance(settings: Settings, utterance: str) -> Trace:
    """Return the rows with this text, ignoring width, case and whitespace.

    Raises `DataError` if there is none.
    """
    matches = find_rows(get_store(settings), RowSought(example=name_example(utterance)))
    if not matches.rows:
        raise DataError(
            f"no dataset in {settings.store_uri} contains the utterance {utterance!r}: give the "
            "complete text. Datasets do not contain rejected rows and conflicts"
        )
    return make_trace(settings, utterance, "utterance", matches)


def trace_row(settings: Settings, row: str) -> Trace:
    """Return the models trained on `EXPORT:LINE`. Raises `DataError` if no dataset has it."""
    _, sought = parse_row(settings, row)
    matches = find_rows(get_store(settings), sought)
    if not matches.rows:
        raise DataError(
            f"no dataset in {settings.store_uri} contains a row of {row}: it was rejected, left "
            "out, or never prepared. `intent check` reports why rows are rejected"
            + _describe_silent(matches)
        )
    return make_trace(settings, row, "row", matches)


def make_trace(
    settings: Settings, what: str, kind: Literal["utterance", "row"], matches: FoundRows
) -> Trace:
    """Return rows with the models that were trained on their datasets."""
    store = get_store(settings)
    models, not_known = (
        [],
        [text.removeprefix("; ") for text in [_describe_silent(matches)] if text],
    )
    splits = {row.dataset: row.split for row in matches.rows}
    for lineage in list_models(store):
        if lineage.dataset in splits:
            whole, faults = complete(settings, lineage)
            models.append(TracedModel(lineage=whole, served="", split=splits[lineage.dataset]))
            not_known += [fault for fault in faults if fault not in not_known]
    return Trace(
        asked=what,
        kind=kind,
        rows=tuple(matches.rows),
        models=tuple(_mark_served(settings, models)),
        not_known=tuple(not_known),
    )


def complete(settings: Settings, lineage: ModelLineage) -> tuple[ModelLineage, list[str]]:
    """Add what only MLflow contains to a model's lineage; return also the lookups that failed."""
    if lineage.mlflow_run:
        return lineage, []
    try:
        return ask_registry(settings, lineage), []
    except TrackingError as error:
        return lineage, [f"{lineage.model}: version and MLflow run ({error})"]


def _mark_served(settings: Settings, models: Iterable[TracedModel]) -> list[TracedModel]:
    state = open_target(settings).read()
    now = state.current.artifact.name if state.current else ""
    before = state.previous.artifact.name if state.previous else ""

    def mark(model: TracedModel) -> TracedModel:
        name = model.lineage.model
        served = "now" if name == now else "before" if name == before else ""
        return model.model_copy(update={"served": served})

    order = ("now", "before", "")
    return sorted((mark(model) for model in models), key=lambda model: order.index(model.served))


def _describe_silent(matches: FoundRows) -> str:
    if not matches.silent:
        return ""
    listed = ", ".join(matches.silent)
    return f"; the datasets {listed} were prepared before rows' origins were recorded"
