"""`intent convert`, `check` and `manifest`: labelled data in files, no server needed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from flows.cli.terminal import (
    AsJson,
    Overrides,
    Recipe,
    console,
    print_json,
    read_config,
    reported,
    show_counts,
)
from intent_core.errors import ConfigError
from tasks.settings import get_settings

export_app = typer.Typer()

MaxRejectionRate = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of unusable rows that is still accepted."),
]


@export_app.command()
def convert(
    export: Annotated[Path, typer.Argument(help="An iTAG export, training JSON or JSONL.")],
    out: Annotated[Path, typer.Option(help="Where [{instruction, output}] goes.")],
    rejected: Annotated[
        Path | None, typer.Option(help="Where rejected rows go, with reasons (JSONL).")
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(help="Where notes on usable rows go: stages that disagree, repairs (JSONL)."),
    ] = None,
    max_rejection_rate: MaxRejectionRate = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Convert an iTAG export to training data; no bad row is lost or fatal.

    Both iTAG formats, JSONL and training JSON are read, gzipped or not. When more rows are
    unusable than accepted, the most frequent reasons are listed and nothing is written to --out.
    """
    from intent_core.exports.convert import convert_export

    with reported("nothing was written"):
        config = read_config(recipe, override, max_rejection_rate).data
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
    export: Annotated[Path, typer.Argument(help="An iTAG export, training JSON or JSONL.")],
    max_rejection_rate: MaxRejectionRate = None,
    tokens: Annotated[
        bool, typer.Option(help="Count tokens with the recipe's base model (takes a while).")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="A folder for the rows behind the findings (JSONL).")
    ] = None,
    recipe: Recipe = None,
    override: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model can learn from an export, before anything is trained.

    The documents' rules (50 to 100 utterances an intent, balance, multi-intent shares, phrasings,
    sequence length, batch) and ours (conflicting and doubtful labels, near-duplicates, values that
    were never said), each with numbers and what to do. Exit code 3 when a rule of the recipe's
    `data.stop_on` is broken.
    """
    from flows.cli.data.check import count_sample_tokens, show_check
    from intent_core.datasets.check_export import check_export
    from intent_core.quality.findings import stop_on_findings

    with reported():
        config = read_config(recipe, override, max_rejection_rate)
        with Console(stderr=True).status("checking"):
            outcome = check_export(
                export, config, count_tokens=count_sample_tokens if tokens else None, out=out
            )
        if as_json:
            print_json(outcome.model_dump(mode="json"))
        else:
            show_check(console, export, outcome)
            if not out:
                console.print("--out FOLDER keeps the rows behind these findings")
        stop_on_findings(outcome.findings, config.data.stop_on)


@export_app.command()
def manifest(
    out: Annotated[Path, typer.Option(help="Where the input manifest goes.")],
    source: Annotated[
        Path | None, typer.Argument(help="Utterances: text, JSONL, JSON, CSV or a manifest.")
    ] = None,
    field: Annotated[
        str, typer.Option(help="Key or column of the utterance, and its key in the manifest.")
    ] = "instruction",
    rejected: Annotated[
        Path | None, typer.Option(help="Where unusable lines go, with reasons (JSONL).")
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(help="An evaluation's predictions.jsonl: take failures and doubts."),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="With --from-predictions: the test split, test.jsonl.")
    ] = None,
    least_certain: Annotated[
        bool, typer.Option("--least-certain", help="Ask the served model, take what it doubts.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to take at most.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Write an iTAG input manifest: the next utterances to label.

    From a file of utterances; conversations (`User:`, `Assistant:` turns) become one instruction
    each, repeats are written once. With `--least-certain` the served model is asked, and the
    utterances it is least sure of are taken. With `--from-predictions` no file of utterances is
    needed: the failures of an evaluation are taken, then its least certain answers. Utterances
    much like one already taken are left out of both.
    """
    from flows.cli.data.next_batch import choose_by_asking, choose_from_files
    from intent_core.exports.input_manifest import read_utterances, write_manifest
    from intent_core.files import write_jsonl

    with reported():
        counts: dict[str, int] = {}
        if from_predictions:
            if source or least_certain or not examples:
                raise ConfigError("--from-predictions goes with --examples test.jsonl alone")
            chosen = choose_from_files(from_predictions, examples, limit)
        elif source is None:
            raise ConfigError("name a file of utterances, or --from-predictions FILE")
        else:
            reading = read_utterances(source, field)
            if rejected:
                write_jsonl(reading.rejections, rejected)
            chosen = list(reading.utterances)
            counts = {"rejected": len(reading.rejections), "repeated": reading.num_duplicates}
            if least_certain:
                chosen = choose_by_asking(get_settings(), reading.utterances, limit)
        written = write_manifest(chosen, out, field)
        if as_json:
            print_json({"written": written, **counts})
            return
        console.print(f"{written} utterance(s) written to {out}", soft_wrap=True, markup=False)
        for what, count in counts.items():
            console.print(f"  {count} {what}")


@contextlib.contextmanager
def show_progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar over a file's bytes. It draws itself only when told: a thread would forbid forking."""
    from intent_core.exports.blocks import count_bytes

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = Console(stderr=True)
    with Progress(
        *columns, console=shown, auto_refresh=False, disable=not shown.is_terminal
    ) as bar:
        row = bar.add_task("reading", total=count_bytes(path))

        def update(num_bytes: int) -> None:
            bar.update(row, completed=num_bytes, refresh=True)

        yield update
