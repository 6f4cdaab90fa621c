"""`intent serve`, `promote`, `rollback`, `reconcile`, `trial`, `try`, `ask`, `status`."""

import contextlib
import signal
import threading
from typing import Annotated

import typer

from flows.cli.completion import complete_accepted_models, complete_models
from flows.cli.terminal import AsJson, console, print_json, reported, say, split_overrides
from intent_core.errors import ConfigError
from tasks.settings import get_settings

serving_app = typer.Typer()


@serving_app.command()
def serve(
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Run as a replica: follow the store's model for the alias in INTENT_FLEET.",
        ),
    ] = False,
) -> None:
    """Serve the promoted model until Ctrl-C, and restart servers that exit.

    Needs neither Prefect nor MLflow. Promotions and rollbacks work while it runs. Replicas of a
    fleet (`--follow`) are promoted and rolled back from any machine with the same store and
    INTENT_FLEET.

    Example:

        intent serve
    """
    from tasks.local_services.supervisor import stop_serving, supervise
    from tasks.serving.fleet.replica import Replica, as_single_machine
    from tasks.serving.targets import open_target

    with reported():
        settings, stop = get_settings(), threading.Event()
        if settings.layout.restoring.exists():
            from tasks.maintenance.backup.restore import finish_restore  # imports Prefect

            finish_restore(settings)
        following: threading.Thread | None = None
        if follow:
            replica = Replica(settings)
            replica.adopt_desired()
            following = threading.Thread(target=replica.follow, args=(stop,))
        else:
            open_target(settings).require_servers_here()
        settings = as_single_machine(settings)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        say(
            console,
            f"serving at {settings.endpoint}; Ctrl-C stops gateway and model servers",
        )
        try:
            if following:
                following.start()
            supervise(settings, stop)
        finally:
            stop.set()
            if following:
                following.join()
            stop_serving(settings)


@serving_app.command()
def promote(
    model: Annotated[
        str,
        typer.Argument(
            help="Content name of an accepted model, e.g. `intent-3f2a9c01b7de`.",
            autocompletion=complete_accepted_models,
        ),
    ],
) -> None:
    """Promote a model that the gate accepted, or finish an interrupted promotion.

    The previous model serves until the new one answers correctly; no request is lost.

    Example:

        intent promote intent-3f2a9c01b7de
    """
    from tasks.serving import promotion
    from tasks.serving.releases import require_release
    from tasks.tracking.registry import try_point_champion

    with reported():
        settings = get_settings()
        release = require_release(settings, model)
        served = promotion.promote.fn(
            release.artifact, release.serve, release.project, release.version
        )
        try_point_champion(settings, served.project, served.version)
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")


@serving_app.command()
def rollback() -> None:
    """Switch back to the previously served model. Run it twice to undo.

    Needs neither Prefect nor MLflow.

    Example:

        intent rollback
    """
    from tasks.serving.targets import open_target

    with reported():
        settings = get_settings()
        target = open_target(settings)
        replaced = target.read().current
        served = target.roll_back()
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")
        # Imported after the rollback: Prefect and MLflow take seconds to import.
        from tasks.serving.promotion import ROLLED_BACK, publish_model_event
        from tasks.tracking.registry import try_point_champion

        publish_model_event(settings, ROLLED_BACK, served, replaced)
        try_point_champion(settings, served.project, served.version)


@serving_app.command()
def reconcile() -> None:
    """Repair serving after a crash or restart: servers and registry agree on the served model.

    Starts missing servers, finishes or undoes an interrupted promotion, and moves the registry's
    alias `champion`.

    Example:

        intent reconcile
    """
    from tasks.serving.targets import open_target
    from tasks.tracking.registry import try_point_champion

    with reported():
        settings = get_settings()
        served, repairs = open_target(settings).reconcile()
        for repair in repairs:
            console.print(repair, soft_wrap=True)
        if served:
            try_point_champion(settings, served.project, served.version)
            console.print(f"{served.alias!r} is {served.artifact.name} (version {served.version})")
        else:
            console.print("no model is being served; none has been promoted yet")


@serving_app.command()
def trial(
    model: Annotated[
        str,
        typer.Argument(
            help="Content name of an accepted adapter; omit to print the current trial.",
            autocompletion=complete_accepted_models,
        ),
    ] = "",
    share: Annotated[
        float, typer.Option(help="Fraction of callers routed to the candidate (0-1).")
    ] = 0.05,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Shadow mode: mirror requests to the candidate and compare the answers.",
        ),
    ] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help="Limit that ends the trial, e.g. `max_parse_failure_rate=0.02`; also "
            "max_unknown_intent_rate, max_disagreement_rate, max_latency_ratio_p95, min_requests "
            "(repeatable).",
        ),
    ] = None,
    stop: Annotated[
        bool,
        typer.Option("--stop", help="Stop the trial and send all traffic to the champion."),
    ] = False,
) -> None:
    """Start, print or stop a canary trial, which routes a fraction of callers to a candidate.

    Callers are split by a hash of their key, so a caller always gets the same model. With
    `--shadow` callers only get the champion's answers. The trial ends as soon as a limit is
    exceeded. Finish with `intent promote MODEL` or `intent trial --stop`.

    Example:

        intent trial intent-3f2a9c01b7de --share 0.1 --limit max_parse_failure_rate=0.02
        intent trial
        intent trial --stop
    """
    from tasks.serving.targets import open_target

    with reported():
        target = open_target(get_settings())
        if stop:
            target.stop_trial()
            console.print("trial stopped; all traffic goes to the champion")
        elif model:
            limits = {
                key: _number(key, value)
                for key, value in split_overrides(limit or [], "--limit").items()
            }
            mode = "shadow" if shadow else "canary"
            target.start_trial(model, {"mode": mode, "share": share, "limits": limits})
            console.print(f"started a {mode} trial of {model}; `intent trial` prints its state")
        else:
            print_json(target.read_trial())


@serving_app.command("try")
def try_by_hand(
    candidate: Annotated[
        str,
        typer.Option(
            help="Second model to query: a content name, or another server's base URL "
            "(http://.../v1), with its key in INTENT_CANDIDATE_KEY.",
            autocompletion=complete_models,
        ),
    ] = "",
    candidate_alias: Annotated[
        str,
        typer.Option(help="Model name on that other server; default: the served model's alias."),
    ] = "",
    host: Annotated[str, typer.Option(help="Address of the page to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the page to listen on.")
    ] = 7860,
) -> None:
    """Open a web page to try the served model by hand.

    Shows the intents and slots of an utterance, the raw answer, its confidence, and the model and
    version. With `--candidate` two models answer side by side, and differences are marked. Needs
    the extra `web` (gradio).

    The page uses the API keys of this machine for everyone who can reach it, so keep it on
    loopback. The keys themselves are not sent to the browser.

    Example:

        intent try --candidate intent-3f2a9c01b7de
    """
    import uvicorn

    from flows.playground.models import open_candidate
    from flows.playground.page import create_page
    from tasks.system.ports import require_free_port

    with reported("no page was opened"), contextlib.ExitStack() as stack:
        settings = get_settings()
        require_free_port(host, port, "the page", "--port")
        second = None
        if candidate:
            second = stack.enter_context(open_candidate(settings, candidate, candidate_alias))
        page = create_page(settings, second, host)
        # SIGTERM must also unwind the stack, which stops the candidate's server.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        address = f"[{host}]" if ":" in host else host
        console.print(f"page at http://{address}:{port}; Ctrl-C closes it", soft_wrap=True)
        uvicorn.run(page, host=host, port=port, log_level="warning", access_log=False)


@serving_app.command()
def ask(
    utterance: Annotated[str, typer.Argument(help="Utterance to send to the model.")],
    as_json: AsJson = False,
) -> None:
    """Send an utterance to the served model and print its calls.

    Streams the raw answer, then prints intents, parameters and the answer's ID.

    Example:

        intent ask "play some jazz by miles davis"
    """
    from flows.cli.serve.ask import ask as ask_model

    with reported():
        settings = get_settings()
        result = ask_model(settings, utterance, None if as_json else console)
        if as_json:
            print_json(result.model_dump(mode="json"))


@serving_app.command()
def status(as_json: AsJson = False) -> None:
    """Print the served model, its version and dataset, and the running servers.

    Example:

        intent status
    """
    from flows.cli.serve.status import read_status, show_status

    with reported():
        settings = get_settings()
        now = read_status(settings)
        if as_json:
            print_json(now.model_dump(mode="json"))
        else:
            show_status(console, now)


def _number(key: str, value: str) -> float | int:
    try:
        return int(value) if key == "min_requests" else float(value)
    except ValueError as error:
        raise ConfigError(f"--limit {key}={value}: expected a number") from error
