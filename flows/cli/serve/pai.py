"""`intent pai ...`: the served model on Alibaba Cloud's PAI."""

import signal
from typing import Annotated, Any

import typer

from flows.cli.terminal import AsJson, console, print_json, reported
from tasks.settings import get_settings
from tasks.settings.pai import get_pai_settings

pai_app = typer.Typer(
    no_args_is_help=True,
    help="""Alibaba Cloud's PAI: train as DLC jobs, serve on EAS.

    Training needs no command: with INTENT_PAI_TRAIN_IMAGE every run fine-tunes as a DLC job.

    Serving has two ways. `intent pai deploy` starts replicas that follow the store; promotions,
    rollbacks and `intent status` are then those of any fleet. Or `intent pai promote` serves each
    model by vLLM alone, with a canary's share of the requests. docs/pai.md has the settings.""",
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
        found = deploy_fleet(settings, get_pai_settings())
        console.print(f"{found.name} runs with {found.instances} instances; set", soft_wrap=True)
        console.print(f"INTENT_PUBLIC_URL={found.endpoint.rstrip('/')}/v1", soft_wrap=True)
        if settings.inference_keys:
            console.print(
                f"and put its token (EAS's console shows it) first into {settings.inference_keys}",
                soft_wrap=True,
            )


@pai_app.command()
def promote(
    model: Annotated[
        str, typer.Argument(help="Content name of an accepted model, as intent-0123456789ab.")
    ],
    share: Annotated[
        int, typer.Option(help="Percent of the requests: 1 to 49 for a canary, or all, 100.")
    ] = 100,
) -> None:
    """Serve an accepted model by vLLM alone, in the group of two services INTENT_PAI_SERVICE.

    The service that takes no requests is updated and asked the golden utterances before it takes
    any. Later the same command with --share 100, or `intent pai rollback`.
    """
    from tasks.serving.fleet.eas import ModelGroup
    from tasks.serving.promotion import follow

    with reported("the model served before takes the requests; the same command goes on"):
        settings = get_settings()
        served = ModelGroup(settings, get_pai_settings()).promote(model, share)
        if served is None:
            console.print(f"{model} takes {share} % of the requests")
            return
        console.print(f"{served.alias!r} is now {model} at {served.endpoint}", soft_wrap=True)
        follow(settings, served)


@pai_app.command()
def rollback() -> None:
    """End a canary; without one give all requests to the model that had them before."""
    from tasks.serving.fleet.eas import ModelGroup
    from tasks.serving.promotion import follow

    with reported():
        settings = get_settings()
        served = ModelGroup(settings, get_pai_settings()).roll_back()
        console.print(f"{served.alias!r} is now {served.artifact.name}", soft_wrap=True)
        follow(settings, served)


@pai_app.command()
def status(as_json: AsJson = False) -> None:
    """What runs on EAS: the replicas, and the group's two services with their shares."""
    from tasks.alibaba.eas import EasServices
    from tasks.alibaba.eas_specs import MODEL_VARIABLE
    from tasks.serving.fleet.eas import ModelGroup

    with reported():
        settings, pai = get_settings(), get_pai_settings()
        replicas = EasServices(pai).find(pai.service)
        found = [*([replicas] if replicas else []), *ModelGroup(settings, pai).read()]
        rows: list[dict[str, Any]] = [
            {
                "service": one.name,
                "status": one.status,
                "instances": one.instances,
                "share": one.share,
                "model": one.environment.get(MODEL_VARIABLE, ""),
                "endpoint": one.endpoint,
                "message": one.message,
            }
            for one in found
        ]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            what = f"{row['model']} {row['share']} %" if row["model"] else "follows the store"
            line = f"{row['service']}: {row['status']}, {row['instances']}, {what}"
            console.print(f"{line}  {row['message']}".rstrip(), soft_wrap=True)
        if not rows:
            console.print("nothing is deployed: `intent pai deploy` or `intent pai promote`")


@pai_app.command(hidden=True)
def work(prefix: Annotated[str, typer.Argument(help="Key of the training in the store.")]) -> None:
    """What a DLC job runs: the training that was asked for in the store."""
    from tasks.training.dlc_job import do_training

    # The job is stopped by it; the program saves its checkpoint and sends it to the store.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with reported("the next job goes on from the checkpoint"):
        artifact = do_training(get_settings(), prefix)
        console.print(f"{artifact.name} is in the store")
