"""`intent approve`, `record` and `score`: review and evaluate models."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.completion import complete_files
from flows.cli.terminal import (
    AsJson,
    Overrides,
    Recipe,
    RowFormat,
    console,
    print_json,
    read_config,
    reported,
)
from intent_core.errors import TrackingError
from tasks.settings import get_settings

review_app = typer.Typer()


@review_app.command()
def approve(
    run: Annotated[
        str,
        typer.Argument(help="ID of the waiting Prefect run; not needed if only one is waiting."),
    ] = "",
    decline: Annotated[
        bool, typer.Option("--decline", help="Decline the model: do not promote it.")
    ] = False,
    by: Annotated[str, typer.Option(help="Name of the reviewer; default: your user name.")] = "",
    note: Annotated[str, typer.Option(help="Reason, recorded with the decision.")] = "",
) -> None:
    """Approve or decline a model whose run waits for manual approval (`gate.mode: manual`).

    The report is on the run's page in Prefect and in its MLflow run. You can also answer on the
    page in Prefect with Resume.

    Example:

        intent approve --by "Li Lei" --note "accuracy is fine"
        intent approve 2269d7e8-63c3-41f8-bdf6-9da7701778ba --decline --note "too slow"
    """
    from flows.pipeline.approval import PromotionForm, answer_run

    with reported():
        form = PromotionForm(approve=not decline, by=by or getpass.getuser(), note=note)
        answered = answer_run(get_settings(), run, form)
        verdict = "declined" if decline else "approved"
        console.print(f"{answered.name}: {verdict}. The run continues.", markup=False)


@review_app.command()
def record() -> None:
    """Retry MLflow records that failed to upload.

    A run continues while MLflow is down; its record then waits in the store. The next run also
    retries it.

    Example:

        intent record
    """
    from flows.pipeline.record import record_queued

    with reported():
        waiting = record_queued(get_settings())
        if waiting:
            raise TrackingError(f"{waiting} record(s) failed to upload; see the log")
        console.print("nothing waits for MLflow")


@review_app.command()
def score(
    gold: Annotated[
        Path,
        typer.Option(
            help="Test set: labelled rows of any format that `intent convert` reads.",
            autocompletion=complete_files,
        ),
    ],
    predictions: Annotated[
        Path,
        typer.Option(
            help="Answers: rows with the utterance and the answer as `output`, or LLaMA-Factory's "
            "generated_predictions.jsonl.",
            autocompletion=complete_files,
        ),
    ],
    row_format: RowFormat = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score answers against a test set, without a server.

    Prints the same metrics as an evaluation. A missing answer counts as wrong, and so does an
    answer that is not a list of calls. `--format` is the format of the test set; that of the
    answers is detected.

    Example:

        intent score --gold test.json --predictions answers.json
    """
    from flows.cli.model.score import show_report
    from intent_core.evaluation.score_files import score_files

    with reported():
        report = score_files(
            gold, predictions, read_config(recipe, override, row_format=row_format)
        )
        if as_json:
            print_json(report)
        else:
            show_report(console, report)
