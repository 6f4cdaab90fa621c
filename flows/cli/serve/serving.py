"""`intent serve`, `promote`, `rollback`, `reconcile`, `trial`, `try`, `ask`, `status`."""

import contextlib
import signal
import threading
from typing import Annotated

import typer

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
            help="Be a replica: serve what the store says for the alias in INTENT_FLEET.",
        ),
    ] = False,
) -> None:
    """Serve the promoted model until Ctrl-C; a server that dies is started again.

    Needs neither Prefect nor MLflow. Promotions and rollbacks go on beside it; those of a fleet
    are commanded from elsewhere, by whoever shares the store and has the same INTENT_FLEET.
    """
    from tasks.local_services.supervisor import stop_serving, supervise
    from tasks.serving.fleet.replica import Replica, as_single_machine
    from tasks.serving.targets import open_target

    with reported():
        settings, stop = get_settings(), threading.Event()
        if settings.layout.restoring.exists():
            from tasks.maintenance.backup.restore import finish_restore  # it imports Prefect

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
        say(console, f"{settings.endpoint}: Ctrl-C stops the gateway and the model servers")
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
        str, typer.Argument(help="Content name of an accepted model, as intent-0123456789ab.")
    ],
) -> None:
    """Serve a model that a gate has accepted, or end a promotion that was interrupted."""
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
    """Serve the model that was served before; again: forward. Needs neither Prefect nor MLflow."""
    from tasks.serving.targets import open_target

    with reported():
        settings = get_settings()
        target = open_target(settings)
        former = target.read().current
        served = target.roll_back()
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")
        # Prefect and MLflow take seconds to import; callers do not wait for them.
        from tasks.serving.promotion import ROLLED_BACK, publish_model_event
        from tasks.tracking.registry import try_point_champion

        publish_model_event(settings, ROLLED_BACK, served, former)
        try_point_champion(settings, served.project, served.version)


@serving_app.command()
def reconcile() -> None:
    """Make servers and registry agree on what is served, after a crash or a restart."""
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
            console.print("nothing is served: no model has been promoted yet")


@serving_app.command()
def trial(
    model: Annotated[
        str, typer.Argument(help="Content name of an accepted adapter; none: show the trial.")
    ] = "",
    share: Annotated[float, typer.Option(help="Of the callers, 0 to 1.")] = 0.05,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="It answers copies, which are only compared.")
    ] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help="Ends it: max_parse_failure_rate=0.02, max_unknown_intent_rate, "
            "max_disagreement_rate, max_latency_ratio_p95, min_requests (repeatable).",
        ),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="All requests are the champion's.")] = False,
) -> None:
    """Let an accepted adapter answer a share of the callers beside the champion (a canary).

    The share is by a stable hash of the caller's key: a caller stays on one side. With --shadow
    callers see nothing of it. When a limit is passed the trial ends by itself, at once. Then
    `intent promote MODEL`, or --stop.
    """
    from tasks.serving.targets import open_target

    with reported():
        target = open_target(get_settings())
        if stop:
            target.stop_trial()
            console.print("the trial is over: all requests are the champion's")
        elif model:
            limits = {
                key: _number(key, value) for key, value in split_overrides(limit or []).items()
            }
            mode = "shadow" if shadow else "canary"
            target.start_trial(model, {"mode": mode, "share": share, "limits": limits})
            console.print(f"{model} is in a {mode} trial; `intent trial` shows it")
        else:
            print_json(target.read_trial())


@serving_app.command("try")
def try_by_hand(
    candidate: Annotated[
        str,
        typer.Option(
            help="Asked beside: a model's content name, or another server's base URL "
            "(http://.../v1), whose key is in INTENT_CANDIDATE_KEY."
        ),
    ] = "",
    candidate_alias: Annotated[
        str, typer.Option(help="Its name on that other server; none: the name ours has.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 7860,
) -> None:
    """A page to try the served model by hand: an utterance in, its calls out.

    Shows intents and slots, the answer as it was written, its confidence, and which model and
    version gave it. With --candidate two models answer side by side, and where they disagree is
    marked. Needs the extra `web` (gradio).

    Whoever reaches the page asks with the keys of this machine: leave it on loopback. The keys
    stay here, the page has none of them.
    """
    import uvicorn

    from flows.playground.models import open_candidate
    from flows.playground.page import create_page
    from tasks.system.ports import require_free_port

    with reported("no page was opened"), contextlib.ExitStack() as stack:
        settings = get_settings()
        require_free_port(host, port, "the page", "--port")
        door = None
        if candidate:
            door = stack.enter_context(open_candidate(settings, candidate, candidate_alias))
        page = create_page(settings, door, host)
        # Ended in whatever way, a candidate's server is given back.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        address = f"[{host}]" if ":" in host else host
        console.print(f"http://{address}:{port}: Ctrl-C closes the page", soft_wrap=True)
        uvicorn.run(page, host=host, port=port, log_level="warning", access_log=False)


@serving_app.command()
def ask(utterance: str, as_json: AsJson = False) -> None:
    """Ask the served model; its answer is streamed, then shown as calls."""
    from flows.cli.serve.ask import ask as ask_model

    with reported():
        settings = get_settings()
        result = ask_model(settings, utterance, None if as_json else console)
        if as_json:
            print_json(result.model_dump(mode="json"))


@serving_app.command()
def status(as_json: AsJson = False) -> None:
    """What is served: which version, since when, from which dataset."""
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
