"""`intent pai`: serve the model on Alibaba Cloud PAI."""

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
    help="""Serve on Alibaba Cloud PAI-EAS.

    Training needs no command: if INTENT_PAI_TRAIN_IMAGE is set, every run trains as a DLC job.

    `intent pai deploy` starts replicas that follow the store. Use `intent promote`,
    `intent rollback` and `intent status` with them as with any fleet. For settings see
    `docs/en/pai.md`.""",
)


@pai_app.command()
def deploy() -> None:
    """Start or update replicas on EAS and wait until they run.

    Running replicas get the current image and settings. Afterwards set INTENT_PUBLIC_URL as printed
    and promote with `intent promote`. EAS's token is added to the callers' keys and is not printed.

    Example:

        intent pai deploy
    """
    from tasks.serving.fleet.eas import deploy_fleet

    with reported("EAS continues; run the same command again to wait for it"):
        settings = get_settings()
        service = deploy_fleet(settings, get_pai_settings())
        line = f"{service.name} runs with {service.instances} instances. Set"
        console.print(line, soft_wrap=True)
        console.print(f"INTENT_PUBLIC_URL={service.endpoint.rstrip('/')}/v1", soft_wrap=True)
        if settings.inference_keys:
            console.print(
                f"and make its token (in EAS's console) the first key in {settings.inference_keys}",
                soft_wrap=True,
            )


_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


@pai_app.command("promote", hidden=True, context_settings=_ANY)
@pai_app.command("rollback", hidden=True, context_settings=_ANY)
def name_fleet_command(context: typer.Context) -> None:
    """Removed: `intent promote` and `intent rollback` now control replicas on EAS."""
    with reported():
        raise ConfigError(
            f"`intent pai {context.info_name}` was removed. Start replicas with `intent pai "
            f"deploy`, then use `intent {context.info_name}`. For the migration from a group of "
            "two services see docs/en/pai.md"
        )


@pai_app.command()
def status(as_json: AsJson = False) -> None:
    """Print the state of the replicas on EAS.

    `intent status` prints the model that they serve.

    Example:

        intent pai status
    """
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
            console.print("no replicas are deployed; start them with `intent pai deploy`")


@pai_app.command(hidden=True)
def work(
    prefix: Annotated[str, typer.Argument(help="Prefix of the training in the store.")],
) -> None:
    """Run a training that is described in the store; the command of a DLC job.

    Example:

        intent pai work trainings/0123456789abcdef
    """
    from tasks.training.dlc_job import do_training

    # PAI stops a job with SIGTERM; the program then saves and uploads a checkpoint.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with reported("the next job resumes from the checkpoint"):
        artifact = do_training(get_settings(), prefix)
        console.print(f"uploaded {artifact.name} to the store")
