"""`intent bench`: measure the served model under load."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.terminal import console, reported, say
from tasks.settings import get_settings

if TYPE_CHECKING:
    from tasks.evaluation.load import LoadReport

bench_app = typer.Typer()


@bench_app.command()
def bench(
    concurrency: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=1024, help="Number of parallel requests (repeatable). Default: 1 and 16."
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="Number of requests with each number of parallel ones.")
    ] = 200,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0, help="Price of the serving machine for an hour, in any currency."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the result as JSON.")] = Path("bench.json"),
) -> None:
    """Measure p50, p95, throughput and cost of the served model under load.

    guidellm sends the test utterances of the model's dataset through the gateway, as callers do,
    with the first inference key. Install it once with `make setup-bench`. More parallel requests
    than INTENT_ANSWERS_PER_KEY allows are refused, and counted as failed. For a limit on the
    latency of every candidate set `gate.max_latency_p95_ms` in the recipe.

    Example:

        intent bench --concurrency 1 --concurrency 16 --price-per-hour 1.20
    """
    from intent_core.files import write_atomically
    from tasks.evaluation.load import measure_loads

    with reported("nothing was written"):
        settings = get_settings()
        report = measure_loads(settings, concurrency or [1, 16], requests, price_per_hour)
        write_atomically(out, report.model_dump_json(indent=1) + "\n")
        _show(report)
        console.print(f"written to {out}", soft_wrap=True)


def _show(report: "LoadReport") -> None:
    table = Table(title=f"{report.model}, version {report.version or '-'}", title_justify="left")
    titles = ("parallel", "p50", "p95", "requests/s", "failed", "cost per million")
    for title in titles:
        table.add_column(title, justify="right")
    for load in report.loads:
        cost = load.cost_per_million
        table.add_row(
            str(load.concurrency),
            f"{load.p50_ms:.0f} ms",
            f"{load.p95_ms:.0f} ms",
            f"{load.requests_per_second:.1f}",
            str(load.num_failed),
            "-" if cost is None else f"{cost:.2f}",
        )
    console.print(table)
    for load in report.loads:
        if load.failure:
            say(console, f"{load.num_failed} of the requests failed, e.g. {load.failure}")
