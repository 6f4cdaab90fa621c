"""`intent trace` and `intent forget`: lineage of answers and rows, and erasure requests."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.cli.completion import complete_models
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
_SERVED = {"now": "served now", "before": "previous model, for `intent rollback`", "": ""}
_USED_AS = {"train": "trained on it", "validation": "validated on it", "test": "tested with it"}


@lineage_app.command()
def trace(
    what: Annotated[
        str,
        typer.Argument(
            help="ID of an answer, content name of a model, or an utterance.",
            autocompletion=complete_models,
        ),
    ] = "",
    row: Annotated[str, typer.Option(help="Line of an export (EXPORT:LINE) to trace.")] = "",
    as_json: AsJson = False,
) -> None:
    """Trace an answer or a model to its training data, or a row to the models trained on it.

    The ID of an answer or a model's name gives the version, MLflow run, recipe, commit, base model,
    dataset and export. An utterance gives the rows with that text. `--row` gives the models trained
    on one line of an export. Works even if the export is deleted or MLflow is down: lookups that
    failed are listed at the end.

    Example:

        intent trace intent-3f2a9c01b7de
        intent trace "play some jazz"
        intent trace --row exports/music.manifest:17
    """
    from flows.lineage import trace as tracing

    with reported("nothing was changed"):
        if bool(what) == bool(row):
            raise ConfigError(
                "give either an answer's ID, a model or an utterance, or --row EXPORT:LINE"
            )
        settings = get_settings()
        result = tracing.trace_row(settings, row) if row else tracing.trace(settings, what)
        if as_json:
            print_json(result.model_dump(mode="json"))
        else:
            show_trace(console, result)


@lineage_app.command()
def forget(
    row: Annotated[str, typer.Argument(help="Line of an export (EXPORT:LINE) to erase.")] = "",
    utterance: Annotated[
        str, typer.Option(help="Utterance to erase, in all exports, instead of a line.")
    ] = "",
    mark_result: Annotated[
        str, typer.Option(help="iTAG's MarkResultId to erase, instead of a line.")
    ] = "",
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Remove --utterance or --mark-result from the erasure list again."
        ),
    ] = False,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Exclude an utterance from all future datasets (erasure request).

    Puts the utterance on the erasure list, which contains digests, no texts. Then lists the models
    that were trained on it, the commands that train without it, and the objects and files that
    still contain the text. It deletes none of them. `--recipe` sets how the export is read if the
    line was never in a dataset.

    Example:

        intent forget exports/music.manifest:17
        intent forget --utterance "play some jazz"
    """
    with reported("entries already on the list stay; run the same command again"):
        if sum(map(bool, (row, utterance, mark_result))) != 1:
            raise ConfigError("give exactly one of EXPORT:LINE, --utterance TEXT, --mark-result ID")
        if undo and row:
            raise ConfigError("--undo needs --utterance TEXT or --mark-result ID, not EXPORT:LINE")
        settings = get_settings()
        from flows.lineage import erase

        if undo:
            removed = erase.take_back(settings, utterance, mark_result)
            if as_json:
                print_json({"removed": removed})
            else:
                console.print(f"removed {len(removed)} entries from the erasure list")
            return
        with Console(stderr=True).status("searching for the text"):
            if row:
                config = read_config(recipe, override).data
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
    """Print rows, then models, each as a block of lines; last the lookups that failed."""
    for row in trace.rows:
        _show_lines(console, describe_row(row))
    if trace.rows and not trace.models:
        console.print("no model was trained on these datasets")
    for model in trace.models:
        _show_lines(console, describe_model(model))
    for fault in trace.not_known:
        console.print(f"lookup failed: {fault}", style="yellow", markup=False, soft_wrap=True)


def show_forgotten(console: Console, forgotten: "Forgotten") -> None:
    """Print the entries made, then what the user must do."""
    if forgotten.new:
        console.print("added to the erasure list: future datasets reject the row as `forgotten`")
    else:
        console.print("already on the erasure list")
    if not forgotten.rows:
        console.print("no dataset in the store contains the row in a split")
    for row in forgotten.rows:
        _show_lines(console, describe_row(row))
    for model in forgotten.models:
        lineage = model.lineage
        version = f"version {lineage.version}" if lineage.version else "not registered"
        served = f", {_SERVED[model.served]}" if model.served else ""
        text = f"{lineage.model} ({version}{served}) {_USED_AS.get(model.split, model.split)}"
        console.print(text, markup=False, soft_wrap=True)
    _show_list(console, "to train a new version without the row:", forgotten.retrain)
    _show_list(console, "the text is still in (nothing was deleted):", forgotten.held_by)
    _show_list(console, "these MLflow runs may contain the text:", forgotten.mlflow_runs)
    for fault in forgotten.not_known:
        console.print(f"lookup failed: {fault}", style="yellow", markup=False, soft_wrap=True)


def describe_row(row: "TracedRow") -> dict[str, str]:
    """Return the lines that describe a row, by name."""
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
    """Return the lines that describe a model, by name."""
    lineage = model.lineage
    marks = [mark for mark in (_SERVED[model.served], _USED_AS.get(model.split, "")) if mark]
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
