"""`intent trace` and `intent forget`: where answers and rows come from, and how rows go."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.cli.terminal import (
    AsJson,
    Overrides,
    Recipe,
    console,
    print_json,
    read_config,
    reported,
)
from intent_core.errors import ConfigError
from tasks.settings import get_settings

if TYPE_CHECKING:
    from flows.lineage.erase import Forgotten
    from flows.lineage.trace import Trace, TracedModel
    from tasks.datasets.row_index import TracedRow

lineage_app = typer.Typer()
_NOT_RECORDED = "not recorded"
_SERVED = {"now": "served now", "before": "served before, for `intent rollback`", "": ""}
_TOLD = {"train": "trained on it", "validation": "validated on it", "test": "was tested with it"}


@lineage_app.command()
def trace(
    what: Annotated[
        str, typer.Argument(help="The id of an answer, a model's content name, or an utterance.")
    ] = "",
    row: Annotated[str, typer.Option(help="A line of an export, as EXPORT:LINE, instead.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say where an answer, a model or an utterance comes from, or which models learned from a row.

    `intent trace chatcmpl-intent-...` names the version, its MLflow run, recipe, code, base model,
    dataset and export. `intent trace "play some jazz"` finds the rows that say so. `intent trace
    --row exports/music.manifest:17` finds the models that learned from that line. The export may
    be gone, and MLflow down: what could not be looked up is said.
    """
    from flows.lineage import trace as tracing

    with reported("nothing was changed"):
        if bool(what) == bool(row):
            raise ConfigError("name an answer's id, a model or an utterance, or --row EXPORT:LINE")
        settings = get_settings()
        result = tracing.trace_row(settings, row) if row else tracing.trace(settings, what)
        if as_json:
            print_json(result.model_dump(mode="json"))
        else:
            show_trace(console, result)


@lineage_app.command()
def forget(
    row: Annotated[str, typer.Argument(help="A line of an export, as EXPORT:LINE.")] = "",
    utterance: Annotated[str, typer.Option(help="An utterance, whoever said it, instead.")] = "",
    mark_result: Annotated[
        str, typer.Option(help="iTAG's id of an answer (MarkResultId), instead.")
    ] = "",
    undo: Annotated[
        bool, typer.Option("--undo", help="Take --utterance or --mark-result off the list again.")
    ] = False,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Keep an utterance out of every dataset from now on; a person asked for its removal.

    Says which models learned from it and how to make others, and which objects and files still
    hold the text; it removes none of them. The list has digests, never a text. `--recipe` says how
    the export is read, where a line of it was never in a dataset.
    """
    with reported("what is on the list stays; the same command goes on"):
        if sum(map(bool, (row, utterance, mark_result))) != 1:
            raise ConfigError("say one of EXPORT:LINE, --utterance TEXT, --mark-result ID")
        if undo and row:
            raise ConfigError("--undo takes --utterance TEXT or --mark-result ID")
        settings = get_settings()
        from flows.lineage import erase

        if undo:
            removed = erase.take_back(settings, utterance, mark_result)
            if as_json:
                print_json({"removed": removed})
            else:
                console.print(f"{len(removed)} entries taken off the list")
            return
        with Console(stderr=True).status("looking for the text"):
            if row:
                config = read_config(recipe, override, None).data
                forgotten = erase.forget_row(settings, row, config)
            elif utterance:
                forgotten = erase.forget_utterance(settings, utterance)
            else:
                forgotten = erase.forget_mark_result(settings, mark_result)
        if as_json:
            print_json(forgotten.model_dump(mode="json"))
        else:
            show_forgotten(console, forgotten)


def show_trace(console: Console, trace: "Trace") -> None:
    """Rows first, then models, each as a block of lines; last what could not be looked up."""
    for row in trace.rows:
        _show_lines(console, describe_row(row))
    if trace.rows and not trace.models:
        console.print("no model was trained on these datasets")
    for model in trace.models:
        _show_lines(console, describe_model(model))
    for fault in trace.not_known:
        console.print(f"not looked up: {fault}", style="yellow", markup=False, soft_wrap=True)


def show_forgotten(console: Console, forgotten: "Forgotten") -> None:
    """What was done, then what is left to do."""
    if forgotten.new:
        console.print("on the forget list: every dataset from now on rejects it as `forgotten`")
    else:
        console.print("it was on the forget list already")
    if not forgotten.rows:
        console.print("no dataset in the store has it in a split")
    for row in forgotten.rows:
        _show_lines(console, describe_row(row))
    for model in forgotten.models:
        lineage = model.lineage
        version = f"version {lineage.version}" if lineage.version else "not registered"
        served = f", {_SERVED[model.served]}" if model.served else ""
        text = f"{lineage.model} ({version}{served}) {_TOLD.get(model.split, model.split)}"
        console.print(text, markup=False, soft_wrap=True)
    _show_list(console, "train without it, which makes a new version:", forgotten.retrain)
    _show_list(console, "the text is still in (nothing was removed):", forgotten.held_by)
    _show_list(console, "and may be shown by these MLflow runs:", forgotten.mlflow_runs)
    for fault in forgotten.not_known:
        console.print(f"not looked up: {fault}", style="yellow", markup=False, soft_wrap=True)


def describe_row(row: "TracedRow") -> dict[str, str]:
    """A row of a dataset, by name and value."""
    lines = {"row": f"{row.split} split of dataset {row.dataset} (example {row.example})"}
    if row.line is None:
        return {**lines, "export": f"{_NOT_RECORDED}: the dataset was made by an earlier version"}
    version = f", version {row.export_version}" if row.export_version else ""
    return {
        **lines,
        "export": f"{row.export}:{row.line}",
        "etag": f"{row.export_etag or _NOT_RECORDED}{version}",
        "answer": f"{row.mark_result or _NOT_RECORDED} (MarkResultId), stage {row.stage}",
        "time": row.answered.isoformat() if row.answered else _NOT_RECORDED,
    }


def describe_model(model: "TracedModel") -> dict[str, str]:
    """A model, by name and value."""
    lineage = model.lineage
    marks = [mark for mark in (_SERVED[model.served], _TOLD.get(model.split, "")) if mark]
    changes = "".join(f" --set {name}={value}" for name, value in lineage.overrides.items())
    version = f"version {lineage.version}" if lineage.version else "not registered"
    lines = {
        "model": f"{lineage.model}, {version}" + (f" ({', '.join(marks)})" if marks else ""),
        "verdict": lineage.verdict,
        "MLflow run": lineage.mlflow_url,
        "run": lineage.prefect_run,
        "recipe": f"{lineage.recipe}{changes}" if lineage.recipe else "",
        "code": lineage.commit,
        "base": f"{lineage.base_model} ({lineage.base_model_digest}), {lineage.method}",
        "dataset": lineage.dataset,
        "export": lineage.export_uri,
        "etag": lineage.export_etag,
        "sha256": lineage.export_sha256,
    }
    if lineage.export_version:
        lines["version"] = lineage.export_version
    return {name: value or _NOT_RECORDED for name, value in lines.items()}


def _show_lines(console: Console, lines: dict[str, str]) -> None:
    for name, value in lines.items():
        console.print(f"{name:10} {value}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _show_list(console: Console, title: str, items: tuple[str, ...]) -> None:
    if items:
        console.print(title)
    for item in items:
        console.print(f"  {item}", markup=False, highlight=False, soft_wrap=True)
