"""`intent run`: run the pipeline on an export and print the outcome."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.completion import complete_recipes
from flows.cli.terminal import AsJson, console, parse_overrides, print_json, reported
from tasks.settings import Settings, get_settings

if TYPE_CHECKING:
    from flows.pipeline.outcome import PipelineOutcome, StepTime

run_app = typer.Typer()


@run_app.command()
def run(
    export_uri: Annotated[
        str, typer.Argument(help="iTAG export: a URI, a path, or a key in the store.")
    ],
    recipe: Annotated[
        str,
        typer.Option(
            help="Name in `deployments/recipes`, or path to a YAML file.",
            autocompletion=complete_recipes,
        ),
    ] = "embedded",
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override one recipe key, e.g. `--set train.num_train_epochs=3` (repeatable).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline on an export: prepare, fine-tune, evaluate, gate, promote.

    Reuses finished steps of earlier runs. Exit code 1 means that the gate rejected the model.

    Example:

        intent run exports/music.manifest --recipe qlora --set train.num_train_epochs=3
    """
    from flows.cli.run.local_run import only_run, run_pipeline

    with reported(), only_run(settings := get_settings()):
        overrides = parse_overrides(override or [])
        quiet = Console(stderr=True)
        run_id, outcome = run_pipeline(settings, export_uri, recipe, overrides, quiet.print)
        if as_json:
            print_json({"run_id": run_id, **outcome.model_dump(mode="json")})
        else:
            show_outcome(console, settings, run_id, outcome)
            show_steps(console, list(outcome.steps))
    if outcome.decision.is_rejected:
        raise typer.Exit(1)


def show_outcome(
    console: Console, settings: Settings, run_id: str, outcome: "PipelineOutcome"
) -> None:
    """Print the metrics, the gate's checks and decision, and where to find the run."""
    report = outcome.report
    figures = Table("metric", "value", "95 % interval", "correct", title="Test utterances")
    for name, metric in report.metrics.items():
        interval = f"{metric.low:.3f} to {metric.high:.3f}"
        count = "" if metric.total is None else f"{metric.successes} of {metric.total}"
        figures.add_row(name, f"{metric.value:.3f}", interval, count)
    console.print(figures)

    checks = Table("check", "value", "threshold", "result", title="Gate")
    for check in outcome.decision.checks:
        verdict = "[green]pass[/]" if check.passed else f"[red]{check.message}[/]"
        checks.add_row(check.name, f"{check.value:.4g}", f"{check.threshold:.4g}", verdict)
    console.print(checks)
    decision = outcome.decision
    accepted = "Promoted" if decision.promote else "Dry run passed"
    verdict = "[bold red]Not promoted[/]" if decision.is_rejected else f"[bold green]{accepted}[/]"
    console.print(f"{verdict}: {escape(decision.reason)}")
    served = outcome.served
    console.print(f"Prefect run   {settings.prefect_ui_url}/runs/flow-run/{run_id}", soft_wrap=True)
    recorded = outcome.recorded
    where = recorded.url if recorded else "not recorded yet, see the log; `intent record` retries"
    console.print(f"MLflow run    {where}", soft_wrap=True)
    if recorded:
        console.print(f"All runs      {recorded.runs_url}", soft_wrap=True)
    if served:
        which = f"model {served.alias!r} is {served.artifact.name}, version {served.version}"
        console.print(f"Endpoint      {settings.endpoint} ({which})", soft_wrap=True)
        console.print(
            f"Keys          in {settings.inference_keys_file}, `name key`", soft_wrap=True
        )
    else:
        console.print("Endpoint      no model is being served; none has been promoted yet")


def show_steps(console: Console, steps: list["StepTime"]) -> None:
    """Print the time of each step."""
    whole = sum(step.seconds for step in steps) or 1.0
    table = Table("step", "seconds", "share", title="Time")
    for step in steps:
        note = " (reused)" if step.reused else ""
        table.add_row(step.name + note, f"{step.seconds:.1f}", f"{step.seconds / whole:.0%}")
    outside = sum(s.seconds for s in steps if s.name not in ("fine-tune", "evaluate"))
    table.add_row("total", f"{whole:.1f}", "100%", style="bold")
    table.add_row("outside training and evaluation", f"{outside:.1f}", f"{outside / whole:.0%}")
    console.print(table)
