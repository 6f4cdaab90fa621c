"""`intent promote`, `rollback`, `reconcile`: what is served, moved by a person."""

from typing import Annotated

import typer

from flows.terminal import console, reported
from tasks.settings import get_settings

serving_app = typer.Typer()


@serving_app.command()
def promote(
    model: Annotated[
        str, typer.Argument(help="Content name of an accepted model, as intent-0123456789ab.")
    ],
) -> None:
    """Serve a model that a gate has accepted, or end a promotion that was interrupted."""
    from tasks.promotion import promote_release

    with reported():
        served = promote_release(get_settings(), model)
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")


@serving_app.command()
def rollback() -> None:
    """Serve the model that was served before; again: forward. Needs neither Prefect nor MLflow."""
    from tasks.serving import roll_back

    with reported():
        settings = get_settings()
        served = roll_back(settings)
        console.print(f"{served.alias!r} is now {served.artifact.name} (version {served.version})")
        from tasks.promotion import follow

        follow(settings, served)


@serving_app.command()
def reconcile() -> None:
    """Make servers and registry agree on what is served, after a crash or a restart."""
    from tasks.promotion import follow
    from tasks.serving import reconcile as reconcile_serving

    with reported():
        settings = get_settings()
        served, repairs = reconcile_serving(settings)
        for repair in repairs:
            console.print(repair, soft_wrap=True)
        if served:
            follow(settings, served)
            console.print(f"{served.alias!r} is {served.artifact.name} (version {served.version})")
        else:
            console.print("nothing is served: no model has been promoted yet")
