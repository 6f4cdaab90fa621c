"""`intent`: the pipeline for a person at a terminal.

Exit codes: 0 done, 1 the gate said no, 2 usage or configuration, 3 bad data,
4 an outside service or the training program failed, 5 a fault of ours, 130 stopped with Ctrl-C.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from intent_core.errors import ConfigError, DataError, IntentError
from tasks.settings import check_prefect_url, get_settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""From labelled utterances to a served intent model.

    Start with `make demo`. With an export of your own: `intent up`, then
    `intent run EXPORT_URI --recipe RECIPE`, then `intent ask UTTERANCE`.

    Exit codes: 0 done, 1 the gate said no, 2 usage or configuration, 3 bad data,
    4 an outside service or the training program failed, 5 a fault of ours,
    130 stopped with Ctrl-C.""",
)
console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Our errors as one message and an exit code; anything else is a fault and shows its trace."""
    try:
        yield
    except IntentError as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True
        )
        code = 2 if isinstance(error, ConfigError) else 3 if isinstance(error, DataError) else 4
        raise typer.Exit(code) from error
    except OSError as error:
        Console(stderr=True).print(f"{error}: free some space or choose another place", style="red")
        raise typer.Exit(4) from error
    except Exception as error:
        # 1 is the gate's: a fault of ours must not look like its no.
        Console(stderr=True).print_exception()
        raise typer.Exit(5) from error
    except KeyboardInterrupt as error:
        Console(stderr=True).print(
            "stopped; what was finished is kept, the same command goes on from there"
        )
        raise typer.Exit(130) from error


@app.callback()
def prepare() -> None:
    """Read the settings before a command imports Prefect, which reads its own at import."""
    with reported():
        check_prefect_url(get_settings())


@app.command()
def up() -> None:
    """Start Prefect, MLflow, the object store and the gateway on this machine, if they are not up.

    A model that was served before is served again. `intent down` stops it all.
    """
    from tasks.services import start_services
    from tasks.serving import restore

    with reported():
        settings = get_settings()
        start_services(settings, console.print)
        served = restore(settings)
        console.print(f"Prefect  {settings.prefect_ui_url}", soft_wrap=True)
        console.print(f"MLflow   {settings.mlflow_tracking_url}", soft_wrap=True)
        console.print(f"Store    {settings.store_uri}", soft_wrap=True)
        what = served.artifact.name if served else "nothing promoted yet"
        console.print(f"Model    {settings.endpoint} ({what})", soft_wrap=True)


@app.command()
def down() -> None:
    """Stop every server that `intent up`, `run` or `demo` started here, and nothing else."""
    from tasks.services import stop_services

    with reported():
        settings = get_settings()
        stop_services(settings, console.print)


@app.command()
def run(
    export_uri: Annotated[
        str, typer.Argument(help="The iTAG export: a URI, a path, or a key in the store.")
    ],
    recipe: Annotated[
        str, typer.Option(help="A name in deployments/recipes, or a YAML file.")
    ] = "embedded",
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one key: --set train.num_train_epochs=3 (repeatable)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take an export through the pipeline: train, evaluate, decide, promote.

    Finished steps of earlier runs are reused. Exit code 1 means the gate said no.
    """
    from flows.display import show_outcome, show_steps
    from flows.local_run import only_run, run_pipeline

    with reported(), only_run(settings := get_settings()):
        overrides = split_overrides(override or [])
        quiet = Console(stderr=True)
        run_id, outcome = run_pipeline(settings, export_uri, recipe, overrides, quiet.print)
        if as_json:
            print_json({"run_id": run_id, **outcome.model_dump(mode="json")})
        else:
            show_outcome(console, settings, run_id, outcome)
            show_steps(console, list(outcome.steps))
    if not outcome.decision.promote:
        raise typer.Exit(1)


@app.command()
def demo(
    gate: Annotated[
        str, typer.Option(help="`recipe`, or `strict`: ask for 0.999 and see it refused.")
    ] = "recipe",
) -> None:
    """The quick start: everything up, a real export to a served model, one question asked."""
    from flows.demo import GATES, run_demo

    with reported():
        settings = get_settings()
        if gate not in GATES:
            raise ConfigError(f"gate {gate!r} is not one of: {', '.join(GATES)}")
        promoted = run_demo(settings, console, gate)
    if not promoted:
        raise typer.Exit(1)


@app.command()
def convert(
    export: Annotated[Path, typer.Argument(help="An iTAG export, training JSON or JSONL.")],
    out: Annotated[Path, typer.Option(help="Where [{instruction, output}] goes.")],
    rejected: Annotated[
        Path | None, typer.Option(help="Where rejected rows go, with reasons (JSONL).")
    ] = None,
    max_rejection_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unusable rows that is still accepted.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Convert an iTAG export to training data; no bad row is lost or fatal."""
    from intent_core.config import DataConfig
    from intent_core.dataset import write_rejections, write_training_json
    from intent_core.itag import check_rejections, read_export

    with reported():
        reading = read_export(export, DataConfig())
        if rejected:
            write_rejections(reading.rejections, rejected)
        check_rejections(reading, export, max_rejection_rate)
        write_training_json(reading.records, out)
        counts = {
            "objects": reading.num_objects,
            "records": len(reading.records),
            "rejections": len(reading.rejections),
        }
        if as_json:
            print_json(counts)
        else:
            console.print(
                f"{counts['records']} of {counts['objects']} rows written to {out}, "
                f"{counts['rejections']} rejected",
                soft_wrap=True,
            )


@app.command()
def score(
    gold: Annotated[Path, typer.Option(help="Test set: [{instruction, output}].")],
    predictions: Annotated[Path, typer.Option(help="Answers: [{instruction, output}].")],
    as_json: AsJson = False,
) -> None:
    """Score answers against a test set; a missing answer counts as wrong."""
    from flows.scoring import score_files, show_report

    with reported():
        report = score_files(gold, predictions)
        if as_json:
            print_json(report)
        else:
            show_report(console, report)


@app.command()
def ask(utterance: str, as_json: AsJson = False) -> None:
    """Ask the served model; its answer is streamed, then shown as calls."""
    from flows.asking import ask as ask_model

    with reported():
        settings = get_settings()
        asked = ask_model(settings, utterance, None if as_json else console)
        if as_json:
            print_json(asked.model_dump(mode="json"))


@app.command()
def status(as_json: AsJson = False) -> None:
    """What is served: which version, since when, from which dataset."""
    from flows.status import read_status, show_status

    with reported():
        settings = get_settings()
        found = read_status(settings)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_status(console, found)


@app.command()
def rollback() -> None:
    """Serve the model that was served before; again: forward."""
    from tasks.promotion import follow_rollback
    from tasks.serving import roll_back

    with reported():
        settings = get_settings()
        served = roll_back(settings)
        follow_rollback(settings, served)
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")


def split_overrides(texts: list[str]) -> dict[str, str]:
    """`["train.seed=1"]` -> `{"train.seed": "1"}`."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: write it as section.key=value")
    return {key.strip(): value for key, _, value in (text.partition("=") for text in texts)}


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
