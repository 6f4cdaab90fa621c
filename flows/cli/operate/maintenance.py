"""`intent doctor`, `clean`, `backup`, `restore`: maintenance of home and store."""

from typing import Annotated

import typer

from flows.cli.terminal import AsJson, console, print_json, reported
from tasks.settings import get_settings

maintenance_app = typer.Typer()
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would change without changing anything.")
]
_STYLES = {"repaired": "green", "would repair": "yellow", "manual fix": "red", "note": "dim"}


def complete_databases(incomplete: str) -> list[str]:
    """Return the values of `--without`."""
    return [name for name in ("prefect", "mlflow") if name.startswith(incomplete)]


@maintenance_app.command()
def doctor(
    dry_run: DryRun = False,
    as_json: AsJson = False,
    set_lifecycle: Annotated[
        bool,
        typer.Option(
            "--set-lifecycle",
            help="Add lifecycle rules to the bucket that abort unfinished uploads of this store.",
        ),
    ] = False,
) -> None:
    """Detect and repair leftovers of a crash.

    Repairs Prefect runs without a process, MLflow runs that no process writes to, a champion that
    differs from the served model, orphaned trainings and model servers, and unfinished uploads.
    Reports what needs manual action: models missing from the store, servers that are down, a disk
    that is almost full.

    Does not touch runs and processes of other machines, or anything still running.

    Exit code 0: healthy, or everything was repaired. 4: manual action is required.

    Example:

        intent doctor --dry-run
    """
    from tasks.maintenance.doctor import CHECKS, examine

    with reported("repairs already made are kept"):
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
        elif all(diagnosis.outcome == "note" for diagnosis in diagnoses):
            console.print(f"healthy: {len(CHECKS)} checks found nothing to repair")
    if unrepaired:
        raise typer.Exit(4)


@maintenance_app.command()
def clean(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete files and models that are no longer needed, by the INTENT_KEEP_* settings.

    On this machine: models except the last INTENT_KEEP_MODELS, work folders of unfinished runs, old
    logs. In the store, only if a setting enables it: models that no gate accepted
    (INTENT_KEEP_CANDIDATE_DAYS), checkpoints, copies of exports.

    Never deletes the served model, the previous model, a model of a trial or a fleet, a model that
    waits for approval, or anything a run may need.

    Example:

        intent clean --dry-run
    """
    from tasks.maintenance.cleanup import plan_cleaning
    from tasks.maintenance.protected import find_protected

    with reported("items already deleted are gone, the rest is kept"):
        settings = get_settings()
        protected = find_protected(settings)
        gone, total = [], 0
        for removal in plan_cleaning(settings, protected):
            if not dry_run:
                removal.remove()
            gone.append({"what": removal.what, "bytes": removal.size})
            total += removal.size
            if not as_json:
                verb = "would delete" if dry_run else "deleted"
                line = f"{verb} {removal.what}: {removal.size} bytes"
                console.print(line, markup=False, soft_wrap=True)
        if as_json:
            print_json({"removed": gone, "bytes": total, "store_left_alone": protected.problem})
            return
        if protected.problem:
            console.print(f"nothing in the store was deleted: {protected.problem}", markup=False)
        console.print(f"{len(gone)} item(s), {total} bytes", markup=False)


@maintenance_app.command()
def backup(
    target: Annotated[str, typer.Argument(help="File to write, or an s3:// or oss:// URI.")],
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Database to leave out: `prefect` or `mlflow` (repeatable).",
            autocompletion=complete_databases,
        ),
    ] = None,
) -> None:
    """Write a backup of the whole state into one file, while everything runs.

    Contains the databases of Prefect and MLflow, MLflow's files, a directory store, the serving
    state, and the settings that differ from their defaults, with a digest of every file. A bucket
    is listed, not copied. Your own database servers are read with pg_dump
    (INTENT_PREFECT_DATABASE_URL, INTENT_MLFLOW_DATABASE_URL).

    Does not contain keys: back up the folder `secrets` yourself. The file may contain utterances of
    your callers; its mode is 0600.

    Example:

        intent backup /backups/intent.tar
        intent backup s3://our-bucket/backups/intent.tar --without prefect
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
    source: Annotated[
        str, typer.Argument(help="Backup to restore: a file, or an s3:// or oss:// URI.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move existing state aside, into `replaced-...`.")
    ] = False,
) -> None:
    """Restore a backup completely or not at all.

    Stop the servers of this home first (`intent down`), and your own servers whose databases are
    replaced. All digests are verified before anything changes. If the command is killed, the old
    state is kept, or the next `intent up` finishes the restore. Afterwards `intent up` serves the
    same model.

    Example:

        intent restore /backups/intent.tar --replace
    """
    from tasks.maintenance.backup.restore import restore as bring_back

    with reported("nothing was changed, or the same command finishes the restore"):
        settings = get_settings()

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        about = bring_back(settings, source, replace=replace, announce=say)
        say(f"restored the state of {about['made']} to {settings.home}")
        for name, value in about["settings"].items():
            say(f"the backup was made with {name}={value}")
        if not about["has_store"]:
            say(f"the backup does not contain its store {about['store']}, which was not changed")
        say("keys are not in a backup: copy the folder `secrets` here, or new keys are created")
        say("run `intent up` to start the servers and serve the same model")
