"""Commands for those who judge a model: `intent approve`, `record`, `score`."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.terminal import AsJson, console, print_json, reported
from intent_core.errors import TrackingError
from tasks.settings import get_settings

review_app = typer.Typer()


@review_app.command()
def approve(
    run: Annotated[
        str, typer.Argument(help="The Prefect run that waits; may be left out if only one does.")
    ] = "",
    decline: Annotated[bool, typer.Option("--decline", help="Do not promote it.")] = False,
    by: Annotated[str, typer.Option(help="Who answers; else your user name.")] = "",
    note: Annotated[str, typer.Option(help="Why, for those who read the verdict later.")] = "",
) -> None:
    """Answer a run whose gate is `manual`: promote the model, or `--decline`.

    The run's page in Prefect and its MLflow run show what to judge by; the same can be answered
    on the page, with Resume.
    """
    from flows.pipeline.approval import PromotionForm, answer_run

    with reported():
        form = PromotionForm(approve=not decline, by=by or getpass.getuser(), note=note)
        answered = answer_run(get_settings(), run, form)
        verdict = "declined" if decline else "approved"
        console.print(f"{answered.name}: {verdict}. The run goes on.", markup=False)


@review_app.command()
def record() -> None:
    """Write into MLflow what it did not take when its runs ended."""
    from flows.pipeline.record import record_queued

    with reported():
        waiting = record_queued(get_settings())
        if waiting:
            raise TrackingError(f"{waiting} record(s) could not be written; the log says why")
        console.print("nothing waits for MLflow")


@review_app.command()
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
