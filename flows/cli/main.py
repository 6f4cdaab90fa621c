"""The `intent` command: its groups, its help, and what precedes every command."""

import sys
from typing import Any, cast

import typer

from flows.cli.data.export import export_app
from flows.cli.model.lineage import lineage_app
from flows.cli.model.review import review_app
from flows.cli.operate.maintenance import maintenance_app
from flows.cli.operate.services import services_app
from flows.cli.run.demo import demo_app
from flows.cli.run.intake import intake_app
from flows.cli.run.run import run_app
from flows.cli.serve.bench import bench_app
from flows.cli.serve.pai import pai_app
from flows.cli.serve.serving import serving_app
from flows.cli.terminal import EXIT_CODES, reported
from tasks.settings import check_prefect_url, get_settings

# Groups of `intent --help`, one for each folder.
GROUPS = {
    "Run": (demo_app, run_app, intake_app),
    "Data": (export_app,),
    "Model": (review_app, lineage_app),
    "Serve": (serving_app, bench_app, pai_app),
    "Operate": (services_app, maintenance_app),
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=f"""Train, evaluate and serve an intent model from labelled utterances.

    Start with `make demo`. For your own export: `intent up`, then
    `intent run EXPORT_URI --recipe RECIPE`, then `intent ask UTTERANCE`.
    `intent --install-completion` adds completion to your shell (bash, zsh, fish).

    Exit codes: {", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())}.""",
)
for title, members in GROUPS.items():
    for member in members:
        for command in member.registered_commands:
            command.rich_help_panel = title
        for subgroup in member.registered_groups:
            subgroup.rich_help_panel = title
        app.add_typer(member, rich_help_panel=title)


@app.callback()
def prepare() -> None:
    """Read the settings before a command imports Prefect, which reads its own on import."""
    with reported():
        check_prefect_url(get_settings())


def main() -> None:
    """Run the command line; a character that the terminal cannot show is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        cast(Any, stream).reconfigure(errors="backslashreplace")
    app()
