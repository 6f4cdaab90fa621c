"""`intent doctor`, `clean`, `backup`, `restore`: care for what is left or must not be lost."""

from typing import Annotated

import typer

from flows.cli.terminal import AsJson, console, print_json, reported
from tasks.settings import get_settings

maintenance_app = typer.Typer()
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say it; change nothing.")]
_STYLES = {"repaired": "green", "would repair": "yellow", "manual fix": "red", "note": "dim"}


@maintenance_app.command()
def doctor(
    dry_run: DryRun = False,
    as_json: AsJson = False,
    set_lifecycle: Annotated[
        bool,
        typer.Option(
            "--set-lifecycle",
            help="Add the bucket's lifecycle rules that abort unfinished uploads of this store.",
        ),
    ] = False,
) -> None:
    """Find and repair what a crash has left, and say what was done.

    Prefect runs without a process, MLflow runs nobody writes to, a champion other than what is
    served, orphaned trainings and model servers, uploads that never ended; and what only a person
    can see to: models missing from the store, servers that are down, a disk that will be full.

    Runs and processes of other machines are left alone, and so is whatever is at work.

    Exit code 0: healthy, or all repaired. 4: something is left for a person.
    """
    from tasks.maintenance.doctor import CHECKS, examine

    with reported("what was repaired stays repaired"):
        diagnoses = []
        for diagnosis in examine(get_settings(), dry_run=dry_run, set_lifecycle=set_lifecycle):
            diagnoses.append(diagnosis)
            if not as_json:
                style = _STYLES[diagnosis.outcome]
                console.print(f"{diagnosis.outcome:12}", style=style, end=" ", markup=False)
                console.print(f"{diagnosis.check}: {diagnosis.what}", markup=False, soft_wrap=True)
                console.print(f"{'':12} -> {diagnosis.action}", markup=False, soft_wrap=True)
        unrepaired = sum(diagnosis.outcome == "manual fix" for diagnosis in diagnoses)
        if as_json:
            findings = [diagnosis.model_dump() for diagnosis in diagnoses]
            print_json({"findings": findings, "left": unrepaired})
        elif not diagnoses:
            console.print(f"healthy: {len(CHECKS)} checks found nothing")
    if unrepaired:
        raise typer.Exit(4)


@maintenance_app.command()
def clean(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Remove what is no longer needed, by the INTENT_KEEP_* settings; --dry-run only lists it.

    On this machine: models beside the last INTENT_KEEP_MODELS, work of runs that never ended, old
    logs. In the store only where a setting says so: models that no gate has accepted
    (INTENT_KEEP_CANDIDATE_DAYS), checkpoints, copies of exports.

    What is served, what was served before, a trial's or a fleet's model, one that waits for a
    person, and whatever a run may need, always stays.
    """
    from tasks.maintenance.cleanup import plan_cleaning
    from tasks.maintenance.protected import find_protected

    with reported("what was removed is gone, the rest stays"):
        settings = get_settings()
        protected = find_protected(settings)
        gone, total = [], 0
        for removal in plan_cleaning(settings, protected):
            if not dry_run:
                removal.remove()
            gone.append({"what": removal.what, "bytes": removal.size})
            total += removal.size
            if not as_json:
                verb = "would remove" if dry_run else "removed"
                line = f"{verb} {removal.what}: {removal.size} bytes"
                console.print(line, markup=False, soft_wrap=True)
        if as_json:
            print_json({"removed": gone, "bytes": total, "store_left_alone": protected.problem})
            return
        if protected.problem:
            console.print(f"the store was left alone: {protected.problem}", markup=False)
        console.print(f"{len(gone)} item(s), {total} bytes", markup=False)


@maintenance_app.command()
def backup(
    target: Annotated[
        str, typer.Argument(help="A file that is written, or an s3:// or oss:// URI.")
    ],
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out the database of `prefect` or `mlflow` (repeatable)."),
    ] = None,
) -> None:
    """Write the whole state into one file, while everything runs.

    Prefect's and MLflow's databases, MLflow's files, a directory store, what is served, and the
    settings that differ from their defaults, with a digest of every file. A bucket is listed, not
    copied. Databases of servers of yours are read with pg_dump (INTENT_PREFECT_DATABASE_URL,
    INTENT_MLFLOW_DATABASE_URL).

    Keys are never in it: keep the folder `secrets` yourself. The file may hold utterances of your
    callers; it is written with mode 0600.
    """
    from tasks.maintenance.backup.backup import back_up

    with reported("nothing was written"):
        size = back_up(
            get_settings(),
            target,
            without or [],
            lambda line: console.print(line, markup=False, soft_wrap=True),
        )
        console.print(f"{target}: {size / 1e6:.1f} MB", markup=False, soft_wrap=True)


@maintenance_app.command()
def restore(
    source: Annotated[str, typer.Argument(help="A backup: a file, or an s3:// or oss:// URI.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move aside what is there, into `replaced-...`.")
    ] = False,
) -> None:
    """Bring a backup back: all of it or nothing. Then `intent up` serves the same model.

    The servers of this home must be down, and so must be yours whose databases it replaces. Every
    digest is compared before anything is changed. Killed at any moment it leaves what was there,
    or goes on with the next `intent up`.
    """
    from tasks.maintenance.backup.restore import restore as bring_back

    with reported("nothing was changed, or the same command ends it"):
        settings = get_settings()

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        about = bring_back(settings, source, replace=replace, announce=say)
        say(f"the state of {about['made']} is in {settings.home}")
        for name, value in about["settings"].items():
            say(f"it was made under {name}={value}")
        if not about["has_store"]:
            say(f"its store is {about['store']}, which is as it is")
        say("keys are not in a backup: bring the folder `secrets` here, or new keys are made")
        say("`intent up` starts the servers and serves the same model")
