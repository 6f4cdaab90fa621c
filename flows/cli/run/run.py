"""`intent run`: an export through the pipeline, and what a person sees at the end of it."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.terminal import AsJson, console, print_json, reported, split_overrides
from tasks.settings import Settings, get_settings

if TYPE_CHECKING:
    from flows.pipeline.outcome import PipelineOutcome, StepTime

run_app = typer.Typer()


@run_app.command()
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
    from flows.cli.run.local_run import only_run, run_pipeline

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


def show_outcome(
    console: Console, settings: Settings, run_id: str, outcome: "PipelineOutcome"
) -> None:
    """The figures, the verdict with every check, and where to look further."""
    report = outcome.report
    figures = Table("metric", "value", "95 % interval", "right", title="Test utterances")
    for name, metric in report.metrics.items():
        interval = f"{metric.low:.3f} to {metric.high:.3f}"
        count = "" if metric.total is None else f"{metric.successes} of {metric.total}"
        figures.add_row(name, f"{metric.value:.3f}", interval, count)
    console.print(figures)

    checks = Table("check", "value", "wanted", "verdict", title="Gate")
    for check in outcome.decision.checks:
        verdict = "[green]pass[/]" if check.passed else f"[red]{check.message}[/]"
        checks.add_row(check.name, f"{check.value:.4g}", f"{check.threshold:.4g}", verdict)
    console.print(checks)
    decision = outcome.decision
    verdict = "[bold green]Promoted[/]" if decision.promote else "[bold red]Not promoted[/]"
    console.print(f"{verdict}: {escape(decision.reason)}")
    served = outcome.served
    console.print(f"Prefect run   {settings.prefect_ui_url}/runs/flow-run/{run_id}", soft_wrap=True)
    recorded = outcome.recorded
    where = recorded.url if recorded else "not yet: MLflow does not answer; the record waits"
    console.print(f"MLflow run    {where}", soft_wrap=True)
    if served:
        which = f"model {served.alias!r} is {served.artifact.name}, version {served.version}"
        console.print(f"Endpoint      {settings.endpoint} ({which})", soft_wrap=True)
        console.print(
            f"Keys          in {settings.inference_keys_file}, `name key`", soft_wrap=True
        )
    else:
        console.print("Endpoint      serves nothing: no model has been promoted yet")


def show_steps(console: Console, steps: list["StepTime"]) -> None:
    """Where the time went."""
    whole = sum(step.seconds for step in steps) or 1.0
    table = Table("step", "seconds", "share", title="Time")
    for step in steps:
        note = " (reused)" if step.reused else ""
        table.add_row(step.name + note, f"{step.seconds:.1f}", f"{step.seconds / whole:.0%}")
    outside = sum(s.seconds for s in steps if s.name not in ("fine-tune", "evaluate"))
    table.add_row("whole", f"{whole:.1f}", "100%", style="bold")
    table.add_row("outside training and evaluation", f"{outside:.1f}", f"{outside / whole:.0%}")
    console.print(table)
