"""`intent up`, `down`, `automations`: the servers on this machine, and who is told of what."""

import typer

from flows.cli.terminal import console, reported
from tasks.settings import get_settings

services_app = typer.Typer()


@services_app.command()
def up() -> None:
    """Start Prefect, MLflow, the object store and the gateway on this machine, if they are not up.

    A model that was served before is served again. `intent down` stops it all.
    """
    from tasks.local_services.services import start_services
    from tasks.maintenance.backup.restore import finish_restore
    from tasks.serving.targets import open_target

    with reported():
        settings = get_settings()
        finish_restore(settings)
        start_services(settings, console.print)
        served, _ = open_target(settings).reconcile()
        console.print(f"Prefect  {settings.prefect_ui_url}", soft_wrap=True)
        console.print(f"MLflow   {settings.mlflow_tracking_url}", soft_wrap=True)
        console.print(f"Store    {settings.store_uri}", soft_wrap=True)
        what = served.artifact.name if served else "nothing promoted yet"
        console.print(f"Model    {settings.endpoint} ({what})", soft_wrap=True)


@services_app.command()
def down() -> None:
    """Stop every server that `intent up`, `run` or `demo` started here, and nothing else."""
    from tasks.local_services.services import stop_services

    with reported():
        settings = get_settings()
        stop_services(settings, console.print)


@services_app.command()
def automations() -> None:
    """Bring deployments/automations.yaml to the Prefect server: who is told of what.

    Notifications go to the server's block in INTENT_NOTIFICATION_BLOCK.
    """
    from tasks.orchestration.automations import ensure_automations
    from tasks.orchestration.prefect_client import connect

    with reported(), connect(settings := get_settings()):
        for name in ensure_automations(settings):
            console.print(name)
        if not settings.notification_block:
            console.print("nobody is notified: INTENT_NOTIFICATION_BLOCK is not set")
