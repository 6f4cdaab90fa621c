"""`intent pai ...`: the served model on Alibaba Cloud's PAI."""

import signal
from typing import Annotated

import typer

from flows.cli.terminal import AsJson, console, print_json, reported
from intent_core.errors import ConfigError
from tasks.settings import get_settings
from tasks.settings.pai import get_pai_settings

pai_app = typer.Typer(
    name="pai",
    no_args_is_help=True,
    help="""Alibaba Cloud's PAI: train as DLC jobs, serve on EAS.

    Training needs no command: with INTENT_PAI_TRAIN_IMAGE every run fine-tunes as a DLC job.

    `intent pai deploy` starts replicas that follow the store: `intent promote`, `intent rollback`
    and `intent status` are then those of any fleet. docs/pai.md has the settings.""",
)


@pai_app.command()
def deploy() -> None:
    """Start replicas on EAS, or bring them to the image and settings of now; wait for them.

    They are a fleet: afterwards set INTENT_PUBLIC_URL as shown and promote with `intent promote`.
    EAS's token is put among the callers' keys, it is not shown.
    """
    from tasks.serving.fleet.eas import deploy_fleet

    with reported("EAS goes on; the same command waits for it"):
        settings = get_settings()
        service = deploy_fleet(settings, get_pai_settings())
        line = f"{service.name} runs with {service.instances} instances; set"
        console.print(line, soft_wrap=True)
        console.print(f"INTENT_PUBLIC_URL={service.endpoint.rstrip('/')}/v1", soft_wrap=True)
        if settings.inference_keys:
            console.print(
                f"and put its token (EAS's console shows it) first into {settings.inference_keys}",
                soft_wrap=True,
            )


_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


@pai_app.command("promote", hidden=True, context_settings=_ANY)
@pai_app.command("rollback", hidden=True, context_settings=_ANY)
def name_fleet_command(context: typer.Context) -> None:
    """Replaced by `intent promote` and `intent rollback`, which command the replicas on EAS."""
    with reported():
        raise ConfigError(
            f"`intent pai {context.info_name}` is gone: start replicas with `intent pai deploy`, "
            f"then use `intent {context.info_name}`; docs/pai.md says how to leave a group of two "
            "services"
        )


@pai_app.command()
def status(as_json: AsJson = False) -> None:
    """Show the replicas on EAS; `intent status` shows what they serve."""
    from tasks.alibaba.eas import EasServices

    with reported():
        pai = get_pai_settings()
        service = EasServices(pai).find(pai.service)
        if as_json:
            fields = {"status", "instances", "endpoint", "message"}
            row = {"service": service.name, **service.model_dump(include=fields)} if service else {}
            print_json([row] if row else [])
        elif service:
            line = f"{service.name}: {service.status}, {service.instances}  {service.message}"
            console.print(line.rstrip(), soft_wrap=True)
        else:
            console.print("nothing is deployed: `intent pai deploy`")


@pai_app.command(hidden=True)
def work(prefix: Annotated[str, typer.Argument(help="Key of the training in the store.")]) -> None:
    """What a DLC job runs: the training that was asked for in the store."""
    from tasks.training.dlc_job import do_training

    # The job is stopped by it; the program saves its checkpoint and sends it to the store.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with reported("the next job goes on from the checkpoint"):
        artifact = do_training(get_settings(), prefix)
        console.print(f"{artifact.name} is in the store")
