"""`intent watch`, `announce` and `receive`: exports that arrive start their runs."""

from typing import Annotated, Any

import typer
from rich.console import Console

from flows.cli.terminal import AsJson, console, print_json, reported
from intent_core.errors import ConfigError
from tasks.settings import get_settings

intake_app = typer.Typer()
itag_app = typer.Typer(no_args_is_help=True, help="Alibaba iTAG's own service.")
intake_app.add_typer(itag_app, name="itag")


@intake_app.command()
def watch(
    project: Annotated[str, typer.Argument(help="A project; none: all of them.")] = "",
    as_json: AsJson = False,
) -> None:
    """Look once for exports that arrived, and start a run for each content that has none.

    Projects stand in deployments/projects.yaml. The deployment `watch-exports/cpu` does the same
    on a schedule; any number of watchers may look at once.
    """
    from flows.watch_exports import watch_exports
    from tasks.orchestration.prefect_client import connect

    with reported():
        settings = get_settings()
        with connect(settings):
            started = watch_exports(project)
        if as_json:
            print_json({"runs": started})
            return
        for run_id in started:
            console.print(f"{settings.prefect_ui_url}/runs/flow-run/{run_id}", soft_wrap=True)
        console.print(f"{len(started)} run(s) started")


@intake_app.command()
def announce(
    export: Annotated[str, typer.Argument(help="A key in the store, as exports/music/a.manifest.")],
    project: Annotated[str, typer.Option(help="The project whose export it is.")],
) -> None:
    """Tell Prefect that an export is there: the event `itag.export.ready`, once for a content."""
    from flows.intake.projects import find_project, load_projects
    from tasks.orchestration.events import publish_export_ready
    from tasks.storage.step_results import get_store

    with reported():
        settings = get_settings()
        find_project(load_projects(settings.projects), project)
        stored = get_store(settings).stat(export)
        if stored is None:
            raise ConfigError(f"there is no {export!r} in {settings.store_uri}")
        publish_export_ready(settings, project, export, stored.etag)
        console.print(f"announced {stored.uri} for {project}", soft_wrap=True)


@intake_app.command()
def receive(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Take signed notifications of object stores and announce the exports they speak of.

    OSS, S3, SeaweedFS and EventBridge bodies are read. A sender needs the bearer token
    INTENT_RECEIVER_TOKEN and signs with INTENT_RECEIVER_SECRET; a store that cannot sign has
    INTENT_RECEIVER_STORE_TOKEN instead. The watcher alone suffices; this saves the wait.
    """
    import uvicorn

    from flows.intake.announce import announce as announce_notice
    from flows.intake.announce import require_receiver_secrets
    from flows.intake.projects import load_projects
    from tasks.labeling.notifications import ExportNotice
    from tasks.labeling.webhook import create_app

    with reported():
        settings = get_settings()
        token, secret = require_receiver_secrets(settings)
        load_projects(settings.projects)

        def publish(notice: ExportNotice) -> None:
            announce_notice(settings, notice)

        app = create_app(publish, token, secret, settings.receiver_store_token)
        # Its own lines look like ours.
        as_json: dict[str, Any] = {"log_config": None} if settings.log_format == "json" else {}
        uvicorn.run(app, host=host, port=port, log_level="info", access_log=False, **as_json)


@itag_app.command("export")
def export_task(
    task: Annotated[str, typer.Option(help="Id of the labelling task.")],
    folder: Annotated[
        str | None, typer.Option(help="Folder in OSS it goes to, as oss://bucket/folder/.")
    ] = None,
    job: Annotated[
        str | None, typer.Option(help="Wait for an export that was started before.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="How long to wait, in seconds.")] = 3600,
    as_json: AsJson = False,
) -> None:
    """Export what is labelled so far in an iTAG task, and print the manifest's oss:// address.

    Needs INTENT_ITAG_ENDPOINT and INTENT_ITAG_TENANT, and keys in Alibaba's standard chain
    (ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET, a profile, a RAM role).
    """
    from tasks.labeling.itag import open_service

    with reported("the export goes on in iTAG; the same command with --job waits for it"):
        service = open_service(get_settings())
        started = job or service.start_export(task, folder)
        Console(stderr=True).print(f"task {task} is exported by job {started}")
        uri = service.wait_for_export(task, started, timeout_s=timeout_s, poll_s=5)
        if as_json:
            print_json({"uri": uri, "job": started})
        else:
            console.print(uri, soft_wrap=True, markup=False)
