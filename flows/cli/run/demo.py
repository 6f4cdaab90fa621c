"""`intent demo`: run the sample export of the repository through the pipeline."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.cli.operate.services import show_logins
from flows.cli.run.run import show_outcome, show_steps
from flows.cli.terminal import console, reported
from intent_core.errors import ConfigError
from tasks.settings import CHECKOUT, Settings, get_settings
from tasks.storage.layout import EXPORTS

demo_app = typer.Typer()

SAMPLE = CHECKOUT / "deployments" / "sample" / "snips_en"
EXPORT_KEY = EXPORTS.key("snips_en", "export.manifest")
TEST_KEY = EXPORTS.key("snips_en", "test.json")
GATES = {
    "recipe": {},
    "strict": {"gate.min_intent_accuracy": 0.999, "gate.min_parameter_accuracy": 0.999},
}
QUESTION = "play some jazz by miles davis"


def complete_gates(incomplete: str) -> list[str]:
    """Return the values of `--gate`."""
    return [name for name in GATES if name.startswith(incomplete)]


@demo_app.command()
def demo(
    gate: Annotated[
        str,
        typer.Option(
            help="Thresholds: `recipe`, or `strict` (accuracy 0.999) to see the gate reject.",
            autocompletion=complete_gates,
        ),
    ] = "recipe",
) -> None:
    """Run the quick start: train, promote and ask a model on the sample export.

    Starts all servers, runs the pipeline on 2200 labelled English utterances, and sends the served
    model one utterance. With `--gate strict` the model is rejected, and the exit code is 1.

    Example:

        intent demo
        intent demo --gate strict
    """
    with reported():
        settings = get_settings()
        if gate not in GATES:
            raise ConfigError(f"gate {gate!r} is not one of: {', '.join(GATES)}")
        promoted = run_demo(settings, console, gate)
    if not promoted:
        raise typer.Exit(1)


def run_demo(settings: Settings, console: Console, gate: str) -> bool:
    """Start the servers, upload the sample, run the pipeline, ask one question.

    Returns whether the gate accepted the model.
    """
    from flows.cli.run.local_run import only_run, run_pipeline
    from flows.cli.serve.ask import ask
    from flows.pipeline.outcome import StepTime, timed
    from tasks.local_services.services import start_services
    from tasks.maintenance.backup.restore import finish_restore
    from tasks.serving.targets import open_target

    steps: list[StepTime] = []
    with only_run(settings):
        with timed("start services", steps):
            finish_restore(settings)
            start_services(settings, console.print)
            upload_sample(settings)
        served_before = None
        with timed("start model server", steps):
            served_before, _ = open_target(settings).reconcile()
        if served_before is None:
            steps.pop()
        run_id, outcome = run_pipeline(
            settings, EXPORT_KEY, "quickstart", GATES[gate], lambda url: console.print(url)
        )
    steps += outcome.steps
    show_outcome(console, settings, run_id, outcome)
    show_logins(console, settings, outcome.served.project if outcome.served else "")
    if outcome.served:
        with timed("ask", steps):
            console.print(f"\n$ intent ask {QUESTION!r}")
            ask(settings, QUESTION, console)
    show_steps(console, steps)
    return not outcome.decision.is_rejected


def upload_sample(settings: Settings) -> None:
    """Upload the sample export and its test set to the store, where exports are expected."""
    from tasks.storage.step_results import get_store

    store = get_store(settings)
    for name, key in (("export-open-group.manifest", EXPORT_KEY), ("test.json", TEST_KEY)):
        store.upload(Path(SAMPLE) / name, key)
