"""`intent trace` and `intent forget`: where answers and rows come from, and how rows go."""

from typing import Annotated

import typer
from rich.console import Console

from flows.cli.data.export import Overrides, Recipe, read_config
from flows.cli.terminal import AsJson, console, print_json, reported
from intent_core.errors import ConfigError
from tasks.settings import get_settings

lineage_app = typer.Typer()


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
    from flows.cli.model.lineage_display import show_trace
    from flows.lineage import trace as tracing

    with reported("nothing was changed"):
        if bool(what) == bool(row):
            raise ConfigError("name an answer's id, a model or an utterance, or --row EXPORT:LINE")
        settings = get_settings()
        found = tracing.trace_row(settings, row) if row else tracing.trace(settings, what)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_trace(console, found)


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
        from flows.cli.model.lineage_display import show_forgotten
        from flows.lineage import erase as forgetting

        if undo:
            removed = forgetting.take_back(settings, utterance, mark_result)
            if as_json:
                print_json({"removed": removed})
            else:
                console.print(f"{len(removed)} entries taken off the list")
            return
        with Console(stderr=True).status("looking for the text"):
            if row:
                config = read_config(recipe, override, None).data
                found = forgetting.forget_row(settings, row, config)
            elif utterance:
                found = forgetting.forget_utterance(settings, utterance)
            else:
                found = forgetting.forget_mark_result(settings, mark_result)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_forgotten(console, found)
