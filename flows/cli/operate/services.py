"""`intent up`, `down`, `env`, `automations`: the servers on this machine, and notifications."""

import shlex
from pathlib import Path

import typer
from rich.console import Console

from flows.cli.terminal import console, reported
from tasks.settings import Settings, client_variables, get_settings

services_app = typer.Typer()


@services_app.command()
def up() -> None:
    """Start the servers of this machine: Prefect, MLflow and the gateway.

    Servers that already run keep running. If a model was promoted, it is served again. Stop
    everything with `intent down`.

    Example:

        intent up
    """
    from tasks.local_services.services import start_services
    from tasks.maintenance.backup.restore import finish_restore
    from tasks.serving.targets import open_target

    with reported():
        settings = get_settings()
        finish_restore(settings)
        start_services(settings, console.print)
        served, _ = open_target(settings).reconcile()
        show_logins(console, settings, served.project if served else "")
        console.print(f"Store    {settings.store_uri}", soft_wrap=True)
        what = served.artifact.name if served else "no model promoted yet"
        console.print(f"Model    {settings.endpoint} ({what})", soft_wrap=True)


def show_logins(console: Console, settings: Settings, project: str) -> None:
    """Print the URLs of Prefect and of the project's runs in MLflow, and where the logins are."""
    from tasks.tracking.experiments import find_runs_url

    prefect = "" if settings.prefect_url else _login_hint("log in", settings.layout.prefect_login)
    console.print(f"Prefect  {settings.prefect_ui_url}{prefect}", soft_wrap=True)
    mlflow = ""
    if settings.mlflow_login and not settings.mlflow_url:
        file = settings.layout.mlflow_secrets / "admin"
        mlflow = _login_hint("log in as admin, password", file)
    console.print(f"MLflow   {find_runs_url(settings, project)}{mlflow}", soft_wrap=True)


def _login_hint(what: str, file: Path) -> str:
    folder = Path.cwd()
    shown = file.relative_to(folder) if file.is_relative_to(folder) else file
    return f"  ({what}: cat {shlex.quote(str(shown))})"


@services_app.command()
def env() -> None:
    """Print the variables with which `prefect` and MLflow's clients log in to the servers.

    The output contains passwords: do not save it.

    Example:

        eval "$(intent env)"
    """
    with reported():
        for name, value in client_variables(get_settings()).items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@services_app.command()
def down() -> None:
    """Stop the servers that `intent up`, `run` or `demo` started on this machine.

    Example:

        intent down
    """
    from tasks.local_services.services import stop_services

    with reported():
        settings = get_settings()
        stop_services(settings, console.print)


@services_app.command()
def automations() -> None:
    """Create or update the automations of `deployments/automations.yaml` on the Prefect server.

    They send notifications to the Prefect block that INTENT_NOTIFICATION_BLOCK names.

    Example:

        intent automations
    """
    from tasks.orchestration.automations import ensure_automations
    from tasks.orchestration.prefect_client import connect

    with reported(), connect(settings := get_settings()):
        for name in ensure_automations(settings):
            console.print(name)
        if not settings.notification_block:
            console.print("no notifications are sent: INTENT_NOTIFICATION_BLOCK is not set")
