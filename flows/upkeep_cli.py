"""`intent doctor`, `clean`, `backup`, `restore`: care for what is left or must not be lost."""

from typing import Annotated

import typer

from flows.terminal import AsJson, console, print_json, reported
from tasks.settings import get_settings

upkeep_app = typer.Typer()
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say it; change nothing.")]
_STYLES = {"repaired": "green", "would repair": "yellow", "for a person": "red", "note": "dim"}


@upkeep_app.command()
def doctor(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Find and repair what a crash has left, and say what was done.

    Prefect runs without a process, MLflow runs nobody writes to, a champion other than what is
    served, orphaned trainings and model servers, uploads that never ended; and what only a person
    can see to: models missing from the store, servers that are down, a disk that will be full.

    Runs and processes of other machines are left alone, and so is whatever is at work.

    Exit code 0: healthy, or all repaired. 4: something is left for a person.
    """
    from tasks.doctor import CHECKS, examine

    with reported("what was repaired stays repaired"):
        found = []
        for finding in examine(get_settings(), dry_run=dry_run):
            found.append(finding)
            if not as_json:
                style = _STYLES[finding.outcome]
                console.print(f"{finding.outcome:12}", style=style, end=" ", markup=False)
                console.print(f"{finding.check}: {finding.what}", markup=False, soft_wrap=True)
                console.print(f"{'':12} -> {finding.action}", markup=False, soft_wrap=True)
        left = sum(finding.outcome == "for a person" for finding in found)
        if as_json:
            print_json({"findings": [one.model_dump() for one in found], "left": left})
        elif not found:
            console.print(f"healthy: {len(CHECKS)} checks found nothing")
    if left:
        raise typer.Exit(4)
