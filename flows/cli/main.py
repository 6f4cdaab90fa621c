"""`intent`: the pipeline for a person at a terminal.

Exit codes: 0 done, 1 the gate said no, 2 usage or configuration, 3 bad data,
4 an outside service or the training program failed, 5 a fault of ours, 130 stopped with Ctrl-C.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.cli.data.export import export_app
from flows.cli.model.lineage import lineage_app
from flows.cli.model.review import review_app
from flows.cli.operate.maintenance import upkeep_app
from flows.cli.run.intake import intake_app
from flows.cli.serve.pai import pai_app
from flows.cli.serve.serving import serving_app
from flows.cli.terminal import AsJson, console, print_json, reported, split_overrides
from intent_core.errors import ConfigError
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
app.add_typer(export_app)
app.add_typer(intake_app)
app.add_typer(lineage_app)
app.add_typer(review_app)
app.add_typer(serving_app)
app.add_typer(upkeep_app)
app.add_typer(pai_app, name="pai")


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
    from tasks.local_services.services import start_services
    from tasks.serving.targets import open_target

    with reported():
        settings = get_settings()
        start_services(settings, console.print)
        served, _ = open_target(settings).reconcile()
        console.print(f"Prefect  {settings.prefect_ui_url}", soft_wrap=True)
        console.print(f"MLflow   {settings.mlflow_tracking_url}", soft_wrap=True)
        console.print(f"Store    {settings.store_uri}", soft_wrap=True)
        what = served.artifact.name if served else "nothing promoted yet"
        console.print(f"Model    {settings.endpoint} ({what})", soft_wrap=True)


@app.command()
def automations() -> None:
    """Bring deployments/automations.yaml to the Prefect server: who is told of what.

    Notifications go to the server's block in INTENT_NOTIFICATION_BLOCK.
    """
    from flows.cli.run.run import connect
    from tasks.orchestration.automations import ensure_automations

    with reported(), connect(settings := get_settings()):
        for name in ensure_automations(settings):
            console.print(name)
        if not settings.notification_block:
            console.print("nobody is notified: INTENT_NOTIFICATION_BLOCK is not set")


@app.command()
def down() -> None:
    """Stop every server that `intent up`, `run` or `demo` started here, and nothing else."""
    from tasks.local_services.services import stop_services

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
    from flows.cli.run.display import show_outcome, show_steps
    from flows.cli.run.run import only_run, run_pipeline

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
    from flows.cli.run.demo import GATES, run_demo

    with reported():
        settings = get_settings()
        if gate not in GATES:
            raise ConfigError(f"gate {gate!r} is not one of: {', '.join(GATES)}")
        promoted = run_demo(settings, console, gate)
    if not promoted:
        raise typer.Exit(1)


@app.command()
def score(
    gold: Annotated[Path, typer.Option(help="Test set: [{instruction, output}].")],
    predictions: Annotated[Path, typer.Option(help="Answers: [{instruction, output}].")],
    as_json: AsJson = False,
) -> None:
    """Score answers against a test set; a missing answer counts as wrong."""
    from flows.cli.model.score import show_report
    from intent_core.evaluation.score_files import score_files

    with reported():
        report = score_files(gold, predictions)
        if as_json:
            print_json(report)
        else:
            show_report(console, report)


@app.command()
def ask(utterance: str, as_json: AsJson = False) -> None:
    """Ask the served model; its answer is streamed, then shown as calls."""
    from flows.cli.serve.ask import ask as ask_model

    with reported():
        settings = get_settings()
        asked = ask_model(settings, utterance, None if as_json else console)
        if as_json:
            print_json(asked.model_dump(mode="json"))


@app.command()
def status(as_json: AsJson = False) -> None:
    """What is served: which version, since when, from which dataset."""
    from flows.cli.serve.status import read_status, show_status

    with reported():
        settings = get_settings()
        found = read_status(settings)
        if as_json:
            print_json(found.model_dump(mode="json"))
        else:
            show_status(console, found)
