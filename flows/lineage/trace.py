"""`intent trace`: from an answer or an utterance to the model and the row, and the other way."""

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
    """Which split of its dataset the row was in, where a row was traced."""

    @property
    def learned(self) -> bool:
        """From the row: trained on it, or chosen by it; else it was only tested with it."""
        return self.split in _LEARNED


class Trace(BaseModel):
    """What is known of something; `not_known` says what could not be looked up, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    kind: Literal["response", "model", "utterance", "row"]
    rows: tuple[TracedRow, ...] = ()
    models: tuple[TracedModel, ...] = ()
    not_known: tuple[str, ...] = ()


def trace(settings: Settings, what: str) -> Trace:
    """Trace a response id, a model's content name or an utterance.

    Raises `DataError` when there is no such thing, `ConfigError` for an id that is not ours.
    """
    named = parse_response_id(what)
    if named is None and what.startswith(_ID_PREFIXES):
        raise ConfigError(
            f"{what!r} names no model: it comes from another server, or from ours before ids named "
            "models; its access log has the request's model then"
        )
    if named is None and not is_content_name(what):
        return trace_utterance(settings, what)
    name = named.model if named else what
    lineage = find_model(get_store(settings), name)
    if lineage is None:
        raise DataError(
            f"the store {settings.store_uri} has no model {name!r}: set INTENT_STORE to the store "
            "of the server that answered" + (", or the id is made up" if named else "")
        )
    model, not_known = complete(settings, lineage)
    if named and named.version:
        # What was served as that version: the registry may call the same weights another one.
        model = model.model_copy(update={"version": named.version})
    return Trace(
        asked=what,
        kind="response" if named else "model",
        models=tuple(_mark_served(settings, [TracedModel(lineage=model, served="")])),
        not_known=tuple(not_known),
    )


def trace_utterance(settings: Settings, utterance: str) -> Trace:
    """The rows that say this, in whatever width, case and blanks; `DataError` when none does."""
    matches = find_rows(get_store(settings), RowSought(example=name_example(utterance)))
    if not matches.rows:
        raise DataError(
            f"no dataset in {settings.store_uri} has the utterance {utterance!r} in a split: it "
            "must be the whole text; rejected rows and conflicts are in no split"
        )
    return make_trace(settings, utterance, "utterance", matches)


def trace_row(settings: Settings, row: str) -> Trace:
    """The models that learned from `EXPORT:LINE`; `DataError` when no dataset has the line."""
    _, sought = parse_row(settings, row)
    matches = find_rows(get_store(settings), sought)
    if not matches.rows:
        raise DataError(
            f"no dataset in {settings.store_uri} has a row of {row}: it was rejected, left out, or "
            "never prepared; `intent check` says why rows are rejected" + _tell_silent(matches)
        )
    return make_trace(settings, row, "row", matches)


def make_trace(
    settings: Settings, what: str, kind: Literal["utterance", "row"], matches: FoundRows
) -> Trace:
    """Rows with the models of their datasets."""
    store = get_store(settings)
    models, not_known = [], [text.removeprefix("; ") for text in [_tell_silent(matches)] if text]
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
    """With what MLflow knows where the store does not, and what neither could say."""
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


def _tell_silent(matches: FoundRows) -> str:
    if not matches.silent:
        return ""
    listed = ", ".join(matches.silent)
    return f"; the datasets {listed} were prepared before rows' origins were recorded"
