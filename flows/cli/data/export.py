"""`intent convert`, `check`, `vocabulary` and `manifest`: files of labelled data, no servers."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

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
    show_counts,
)
from intent_core.errors import ConfigError
from tasks.settings import get_settings
from tasks.settings.private_home import users_umask

export_app = typer.Typer()

Export = typer.Argument(
    help="Export: JSON, JSONL, CSV or TSV; gzip or zip.", autocompletion=complete_files
)

MaxRejectionRate = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Accepted share of rejected rows; default: `data.max_rejection_rate` of the recipe.",
    ),
]


@export_app.command()
def convert(
    export: Annotated[Path, Export],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: a JSON array of {instruction, output}.",
            autocompletion=complete_files,
        ),
    ],
    rejected: Annotated[
        Path | None,
        typer.Option(
            help="File for rejected rows and their reasons (JSONL).", autocompletion=complete_files
        ),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(
            help="File for notes on usable rows: repairs, stages that disagree (JSONL).",
            autocompletion=complete_files,
        ),
    ] = None,
    max_rejection_rate: MaxRejectionRate = None,
    row_format: RowFormat = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Convert an export to training data.

    Reads iTAG, Label Studio, doccano, Alpaca and chat rows as JSON, JSONL, CSV or TSV, plain or in
    gzip or zip. A row that cannot be used is
    rejected with its reason. If more rows are rejected than `--max-rejection-rate` allows, the
    most frequent reasons are printed, and `--out` is not written (exit code 3).

    Example:

        intent convert music.manifest --out train.json --rejected rejected.jsonl
    """
    from intent_core.exports.convert import convert_export

    with reported("nothing was written"), users_umask():
        config = read_config(
            recipe, override, max_rejection_rate=max_rejection_rate, row_format=row_format
        ).data
        with show_progress(export) as on_progress:
            tally = convert_export(
                export, out, config, rejected=rejected, reported=reports, on_progress=on_progress
            )
        if as_json:
            print_json(
                {
                    "objects": tally.num_objects,
                    "records": tally.num_records,
                    "rejections": tally.num_rejections,
                    "reasons": dict(tally.reasons),
                    "reports": dict(tally.reports),
                }
            )
            return
        console.print(
            f"{tally.num_records} of {tally.num_objects} rows written to {out}, "
            f"{tally.num_rejections} rejected",
            soft_wrap=True,
            markup=False,
        )
        show_counts(tally.reasons, tally.reports)


@export_app.command()
def check(
    export: Annotated[Path, Export],
    max_rejection_rate: MaxRejectionRate = None,
    row_format: RowFormat = None,
    tokens: Annotated[
        bool, typer.Option(help="Count tokens with the recipe's base model (slower).")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the rows behind the findings (JSONL).", autocompletion=complete_files
        ),
    ] = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check an export for problems before a model is trained on it.

    Checks the rules of the PAI guide (50 to 100 utterances per intent, balance, share of
    multi-intent utterances, phrasings, sequence length, batch size) and more: conflicting and
    doubtful labels, near-duplicates, values that do not occur in the utterance. Each finding has
    numbers and a remedy. Exit code 3 if a finding is in the recipe's `data.stop_on`.

    Example:

        intent check music.manifest --recipe qlora --out findings/
    """
    from flows.cli.data.check import count_sample_tokens, show_check
    from intent_core.datasets.check_export import check_export
    from intent_core.quality.findings import stop_on_findings

    with reported(), users_umask():
        config = read_config(
            recipe, override, max_rejection_rate=max_rejection_rate, row_format=row_format
        )
        with Console(stderr=True).status("checking the export"):
            outcome = check_export(
                export, config, count_tokens=count_sample_tokens if tokens else None, out=out
            )
        if as_json:
            print_json(outcome.model_dump(mode="json"))
        else:
            show_check(console, export, outcome)
            if not out:
                console.print("write the rows behind these findings with --out FOLDER")
        stop_on_findings(outcome.findings, config.data.stop_on)


@export_app.command()
def vocabulary(
    export: Annotated[Path, Export],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: the label vocabulary (YAML).", autocompletion=complete_files
        ),
    ] = Path("intents.yaml"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file if it exists.")
    ] = False,
    max_rejection_rate: MaxRejectionRate = None,
    row_format: RowFormat = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Draft a label vocabulary from an export: its intents, their slots and values.

    Reads intents and slot names from the labels. Types, lists of values and the slots of
    values without names are guessed, and marked `# guessed` in the file: check them. A recipe
    uses the `intents.yaml` in its folder, or the file that `data.vocabulary` names.

    Example:

        intent vocabulary music.manifest --out recipes/intents.yaml
    """
    from intent_core.datasets.draft_vocabulary import draft_vocabulary
    from intent_core.files import write_atomically

    with reported("nothing was written"), users_umask():
        config = read_config(
            recipe, override, max_rejection_rate=max_rejection_rate, row_format=row_format
        )
        draft = draft_vocabulary(export, config.data)
        if not write_atomically(out, draft.text, overwrite=force):
            raise ConfigError(
                f"{out} exists: choose another file with --out, or overwrite it with --force"
            )
        if as_json:
            print_json(
                {
                    "intents": draft.num_intents,
                    "slots": draft.num_slots,
                    "guessed": draft.num_guessed,
                }
            )
            return
        console.print(
            f"{draft.num_intents} intent(s) and {draft.num_slots} slot(s) written to {out}, "
            f"{draft.num_guessed} guess(es) marked in it\n"
            "next: check them, add the missing slots, and put the file next to your recipe as "
            "intents.yaml; then run `intent check` with that recipe",
            soft_wrap=True,
            markup=False,
        )


@export_app.command()
def manifest(
    out: Annotated[
        Path,
        typer.Option(help="File to write: the input manifest.", autocompletion=complete_files),
    ],
    source: Annotated[
        Path | None,
        typer.Argument(
            help="File of utterances: text, JSON, JSONL, CSV, TSV or an export; gzip or zip.",
            autocompletion=complete_files,
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            help="Key or column of the utterance, and its key in the manifest; default: "
            "`data.utterance_field` of the recipe."
        ),
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(
            help="File for unusable lines and their reasons (JSONL).",
            autocompletion=complete_files,
        ),
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(
            help="An evaluation's `predictions.jsonl`: take failures and uncertain answers.",
            autocompletion=complete_files,
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            help="The test split (`test.jsonl`) of `--from-predictions`.",
            autocompletion=complete_files,
        ),
    ] = None,
    least_certain: Annotated[
        bool,
        typer.Option(
            "--least-certain",
            help="Query the served model and take the utterances it is least certain of.",
        ),
    ] = False,
    prelabel: Annotated[
        bool,
        typer.Option("--prelabel", help="Write the served model's answer next to each utterance."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of utterances.")] = 200,
    row_format: RowFormat = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write an iTAG input manifest with the next utterances to label.

    Reads a file of utterances. A conversation (`User:` and `Agent:` turns; see `data.speakers`)
    becomes one instruction, and duplicates are written once. With `--least-certain`, only the
    utterances that the served model is least certain of are written. With `--from-predictions`,
    no file of utterances is needed: the failures of an evaluation are written, then its least
    certain answers. Both options skip near-duplicates. With `--prelabel`, each utterance has the
    served model's answer in `prelabel`, and in `prelabel_<question>` for each question of
    `data.template`; iTAG can offer those of choice questions as pre-labels.

    Example:

        intent manifest chats.txt --out input.manifest
        intent manifest chats.txt --out input.manifest --least-certain --limit 100
        intent manifest chats.txt --out input.manifest --prelabel
        intent manifest --out next.manifest --from-predictions pred.jsonl --examples test.jsonl
    """
    from flows.cli.data.next_batch import choose_by_asking, choose_from_files
    from intent_core.exports.input_manifest import read_utterances, write_manifest
    from intent_core.files import write_jsonl

    with reported(), users_umask():
        config = read_config(recipe, override, row_format=row_format, field=field).data
        counts: dict[str, int] = {}
        if from_predictions:
            if source or least_certain or not examples:
                raise ConfigError(
                    "--from-predictions needs --examples test.jsonl, and no file of utterances"
                )
            chosen = choose_from_files(from_predictions, examples, limit)
        elif source is None:
            raise ConfigError("no input: give a file of utterances, or --from-predictions FILE")
        else:
            reading = read_utterances(source, config)
            if rejected:
                write_jsonl(reading.rejections, rejected)
            chosen = list(reading.utterances)
            counts = {"rejected": reading.num_rejections, "repeated": reading.num_duplicates}
            if least_certain:
                chosen = choose_by_asking(get_settings(), reading.utterances, limit)
        prelabels: list[dict[str, str]] = []
        if prelabel:
            from flows.cli.data.prelabel import prelabel as ask_model

            prelabels, *num_lacking = ask_model(get_settings(), chosen, config.template)
            counts |= dict(
                zip(
                    ("without a pre-label", "with an answer that the questions cannot hold"),
                    num_lacking,
                    strict=True,
                )
            )
        written = write_manifest(chosen, out, config.utterance_field, prelabels)
        if as_json:
            print_json({"written": written, **counts})
            return
        console.print(f"{written} utterance(s) written to {out}", soft_wrap=True, markup=False)
        for what, count in counts.items():
            console.print(f"  {count} {what}")


@contextlib.contextmanager
def show_progress(path: Path) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over a file's bytes.

    It is drawn on updates only: a refresh thread would make forking unsafe.
    """
    from intent_core.exports.files.blocks import count_bytes

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = Console(stderr=True)
    with Progress(
        *columns, console=shown, auto_refresh=False, disable=not shown.is_terminal
    ) as bar:
        row = bar.add_task("reading", total=count_bytes(path))

        def update(num_bytes: int) -> None:
            bar.update(row, completed=num_bytes, refresh=True)

        yield update
