"""`intent watch`, `announce`, `receive`, `itag`: start runs when exports arrive."""

from typing import Annotated, Any

import typer
from rich.console import Console

from flows.cli.completion import complete_projects
from flows.cli.terminal import AsJson, console, print_json, reported
from intent_core.errors import ConfigError
from tasks.settings import get_settings

intake_app = typer.Typer()
itag_app = typer.Typer(no_args_is_help=True, help="Export from Alibaba iTAG's labelling service.")
intake_app.add_typer(itag_app, name="itag")


@intake_app.command()
def watch(
    project: Annotated[
        str,
        typer.Argument(
            help="Project of the projects file; default: all.", autocompletion=complete_projects
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check once for new exports and start a run for each; restart crashed runs.

    Projects are configured in `deployments/projects.yaml`. An export with the content of an
    earlier one starts no run. The deployment `watch-exports/watch-exports` does the same on a
    schedule; any number of watchers may run at the same time.

    Example:

        intent watch music
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
    export: Annotated[str, typer.Argument(help="Key in the store.")],
    project: Annotated[
        str,
        typer.Option(help="Project that the export belongs to.", autocompletion=complete_projects),
    ],
) -> None:
    """Announce one export to Prefect, which starts a run for it.

    Sends the event `itag.export.ready`; the deployment `take-export/retrain` must exist. Announcing
    the same content again starts no second run.

    Example:

        intent announce exports/music/a.manifest --project music
    """
    from flows.intake.projects import find_project, load_projects
    from tasks.orchestration.events import publish_export_ready
    from tasks.storage.step_results import get_store

    with reported():
        settings = get_settings()
        find_project(load_projects(settings.projects), project)
        stored = get_store(settings).stat(export)
        if stored is None:
            raise ConfigError(f"no object {export!r} in the store {settings.store_uri}")
        publish_export_ready(settings, project, export, stored.etag)
        console.print(f"announced {stored.uri} for {project}", soft_wrap=True)


@intake_app.command()
def receive(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Receive webhooks of object stores and announce the exports in them.

    Accepts notifications of OSS, S3, SeaweedFS and EventBridge. A sender needs the bearer token
    INTENT_RECEIVER_TOKEN and signs with INTENT_RECEIVER_SECRET; a store that cannot sign uses the
    token INTENT_RECEIVER_STORE_TOKEN instead. Optional: `intent watch` finds the same exports, but
    only when it runs.

    Example:

        intent receive --host 0.0.0.0 --port 8700
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
        # With JSON logs uvicorn must not configure its own text format.
        as_json: dict[str, Any] = {"log_config": None} if settings.log_format == "json" else {}
        uvicorn.run(app, host=host, port=port, log_level="info", access_log=False, **as_json)


@itag_app.command("export")
def export_task(
    task: Annotated[str, typer.Option(help="ID of the labelling task.")],
    folder: Annotated[
        str | None,
        typer.Option(
            help="OSS folder to export to, e.g. oss://bucket/folder/; default: iTAG's choice."
        ),
    ] = None,
    job: Annotated[
        str | None, typer.Option(help="ID of an export that was started earlier: wait for it.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="Maximum wait in seconds.")] = 3600,
    as_json: AsJson = False,
) -> None:
    """Export the labels of an iTAG task and print the URI of the manifest in OSS.

    Needs INTENT_ITAG_ENDPOINT and INTENT_ITAG_TENANT, and credentials that Alibaba's SDK finds
    (ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, a profile, or a RAM role).

    Example:

        intent itag export --task 1564312546 --folder oss://our-bucket/exports/music/
    """
    from tasks.labeling.itag import open_service

    with reported("the export continues in iTAG; run the same command with --job to wait for it"):
        service = open_service(get_settings())
        started = job or service.start_export(task, folder)
        Console(stderr=True).print(f"exporting task {task}: job {started}")
        uri = service.wait_for_export(task, started, timeout_s=timeout_s, poll_s=5)
        if as_json:
            print_json({"uri": uri, "job": started})
        else:
            console.print(uri, soft_wrap=True, markup=False)
