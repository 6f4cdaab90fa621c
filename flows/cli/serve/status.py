"""`intent status`: the served model, and whether servers and registry agree on it."""

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from tasks.local_services.services import running_services
from tasks.serving.gateway.nginx import serving_now
from tasks.serving.state import ServedModel
from tasks.serving.targets import open_target
from tasks.settings import Settings
from tasks.tracking.experiments import find_runs_url
from tasks.tracking.registry import read_champion


class Status(BaseModel):
    """The served model, whether it answers, and the processes of this home."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    served: ServedModel | None
    previous: ServedModel | None
    answers: bool
    gateway_serves: str | None
    """Model server behind the gateway; "" for none, null if the gateway is down."""
    champion: str | None
    """Version with the registry's alias `champion`; null if none, or if MLflow does not answer."""
    runs: str
    """Address of the project's runs in MLflow; of MLflow if none are known."""
    replicas: dict[str, str]
    """Replicas of a fleet: the model that each serves, or why it serves none."""
    services: dict[str, int]
    """Names and pids of the running processes."""


def read_status(settings: Settings) -> Status:
    target = open_target(settings)
    state = target.read()
    current = state.current
    return Status(
        served=current,
        previous=state.previous,
        answers=current is not None and target.does_answer(current),
        gateway_serves=serving_now(settings),
        champion=read_champion(settings, current.project) if current else None,
        runs=find_runs_url(settings, current.project if current else ""),
        replicas=target.replicas(),
        services=running_services(settings),
    )


def show_status(console: Console, status: Status) -> None:
    served = status.served
    if served is None:
        console.print("served     no model is being served; none has been promoted yet")
    else:
        state = "answers" if status.answers else "DOES NOT ANSWER: run `intent up` to restart it"
        lines = {
            "served": f"{served.alias} = {served.artifact.name}, version {served.version}, {state}",
            "since": served.since.astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
            "dataset": served.artifact.dataset_fingerprint,
            "base": f"{served.artifact.base_model} ({served.artifact.method})",
            "endpoint": served.endpoint,
            "runs": status.runs,
        }
        if status.champion is not None and status.champion != served.version:
            lines["registry"] = (
                f"champion is version {status.champion}: run `intent reconcile` to move the alias"
            )
        for name, value in lines.items():
            console.print(f"{name:10} {value}", markup=False, soft_wrap=True)
    if status.previous:
        console.print(f"previous   {status.previous.artifact.name}, for `intent rollback`")
    for name, model in status.replicas.items():
        console.print(f"replica    {name}: {model}", markup=False, soft_wrap=True)
    running = ", ".join(f"{name} (pid {pid})" for name, pid in status.services.items())
    console.print(
        f"running    {running or 'nothing; `intent up` starts the servers'}", soft_wrap=True
    )
