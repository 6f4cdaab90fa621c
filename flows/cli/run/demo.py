"""`intent demo`: a real export from the repository through the whole pipeline."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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


@demo_app.command()
def demo(
    gate: Annotated[
        str, typer.Option(help="`recipe`, or `strict`: ask for 0.999 and see it refused.")
    ] = "recipe",
) -> None:
    """The quick start: everything up, a real export to a served model, one question asked."""
    with reported():
        settings = get_settings()
        if gate not in GATES:
            raise ConfigError(f"gate {gate!r} is not one of: {', '.join(GATES)}")
        promoted = run_demo(settings, console, gate)
    if not promoted:
        raise typer.Exit(1)


def run_demo(settings: Settings, console: Console, gate: str) -> bool:
    """Services up, export into the store, pipeline, one question. False: the gate said no."""
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
    if outcome.served:
        with timed("ask", steps):
            console.print(f"\n$ intent ask {QUESTION!r}")
            ask(settings, QUESTION, console)
    show_steps(console, steps)
    return outcome.decision.promote


def upload_sample(settings: Settings) -> None:
    """Put the labelled export and its test set where a labelling team's export would lie."""
    from tasks.storage.step_results import get_store

    store = get_store(settings)
    for name, key in (("export-open-group.manifest", EXPORT_KEY), ("test.json", TEST_KEY)):
        store.upload(Path(SAMPLE) / name, key)
