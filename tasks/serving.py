"""Promotion and its reverse: which model the public address serves, and since when.

The new server is warm before the gateway turns to it and the old one stops after its last
answer, so no caller sees the change. What is served stands in `serving.json`, written in one
step after the turn; `restore` brings a restarted machine back to it.
"""

import asyncio
import contextlib
import datetime
import fcntl
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.artifacts import ModelArtifact
from intent_core.config import EvaluateConfig, ServeConfig
from intent_core.dataset import Example
from intent_core.errors import ConfigError, ServingError
from tasks.gateway import serving_now, turn_gateway, wait_for_drain
from tasks.inference import predict
from tasks.model_server import (
    ModelServer,
    ensure_model_server,
    find_model_server,
    is_ready,
    server_name,
    stop_model_server,
)
from tasks.processes import list_processes, stop_process, write_atomically
from tasks.services import processes_folder
from tasks.settings import Settings

logger = logging.getLogger(__name__)


class ServedModel(BaseModel):
    """What answers at the public address, and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: ModelArtifact
    serve: ServeConfig
    endpoint: str
    alias: str
    version: str
    """Version in the MLflow registry; "" while it is not registered."""
    project: str
    since: AwareDatetime


class ServingState(BaseModel):
    """The served model and the one before it, which a rollback returns to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None


def read_state(settings: Settings) -> ServingState:
    path = _state_path(settings)
    return ServingState.model_validate_json(path.read_bytes()) if path.exists() else ServingState()


def promote_model(
    settings: Settings,
    artifact: ModelArtifact,
    serve: ServeConfig,
    *,
    project: str,
    version: str,
    golden: Sequence[Example],
) -> ServedModel:
    """Turn the public address to this artifact; the model served before stays until it is done.

    Raises `ServingError`, with the former model serving, when the golden utterances are
    answered differently through the public address than by the candidate itself.
    """
    served = ServedModel(
        artifact=artifact,
        serve=serve,
        endpoint=settings.endpoint,
        alias=serve.alias,
        version=version,
        project=project,
        since=datetime.datetime.now(datetime.UTC),
    )
    with only_one(settings):
        state = read_state(settings)
        former = state.current
        if former and is_same(served, former) and is_served(settings, former):
            served = former
        else:
            is_new = former is not None and former.artifact.digest != artifact.digest
            previous = former if is_new else state.previous
            _turn_to(settings, ServingState(current=served, previous=previous), former, golden)
        retire_others(settings, served)
    return served


def note_version(settings: Settings, artifact: ModelArtifact, version: str) -> ServedModel | None:
    """The registry's version of a model that was promoted without one; None: another is served."""
    with only_one(settings):
        state = read_state(settings)
        if state.current is None or state.current.artifact.digest != artifact.digest:
            return None
        served = state.current.model_copy(update={"version": version})
        write_state(settings, state.model_copy(update={"current": served}))
    return served


def roll_back(settings: Settings) -> ServedModel:
    """Return to the model served before; needs neither MLflow nor Prefect."""
    with only_one(settings):
        state = read_state(settings)
        if state.previous is None or state.current is None:
            raise ConfigError("there is no earlier model to roll back to")
        served = state.previous.model_copy(update={"since": datetime.datetime.now(datetime.UTC)})
        _turn_to(settings, ServingState(current=served, previous=state.current), state.current, ())
        retire_others(settings, served)
    return served


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """One promotion or rollback at a time; the kernel frees the lock of a killed one."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "serving.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingError(
                "another promotion or rollback is under way: try again when it has ended"
            ) from error
        yield


def is_same(one: ServedModel, other: ServedModel) -> bool:
    """The same model, served in the same way under the same names?"""
    return one.model_copy(update={"since": other.since}) == other


def restore(settings: Settings) -> ServedModel | None:
    """After a restart: serve what was served before."""
    with only_one(settings):
        served = read_state(settings).current
        if served and not is_served(settings, served):
            server = ensure_model_server(settings, served.artifact, served.serve)
            turn_gateway(settings, server.address, server.name)
    return served


def is_served(settings: Settings, served: ServedModel) -> bool:
    """Does the public address turn to a living server of this very model?"""
    server = find_model_server(settings, served.artifact, served.serve)
    return server is not None and serving_now(settings) == server.name


def does_answer(settings: Settings, served: ServedModel) -> bool:
    """The same, and the server says so itself now?"""
    server = find_model_server(settings, served.artifact, served.serve)
    return is_served(settings, served) and server is not None and is_ready(settings, server)


def retire_others(settings: Settings, served: ServedModel) -> None:
    """Let former servers answer what they have begun, then stop them. Their weights stay.

    Whatever an interrupted promotion or a failed run has left goes with them.
    """
    keep = server_name(served.artifact, served.serve)
    folder = processes_folder(settings)
    others = [r for r in list_processes(folder) if r.name.startswith("vllm-") and r.name != keep]
    if others:
        wait_for_drain(settings)
    for record in others:
        stop_process(folder, record)


def discard_candidate(settings: Settings, artifact: ModelArtifact, serve: ServeConfig) -> None:
    """Stop a rejected candidate's server, unless it is what callers are being served."""
    served = read_state(settings).current
    is_current = served is not None and (served.artifact, served.serve) == (artifact, serve)
    if not is_current and serving_now(settings) != server_name(artifact, serve):
        stop_model_server(settings, artifact, serve)


def _turn_to(
    settings: Settings, state: ServingState, former: ServedModel | None, golden: Sequence[Example]
) -> None:
    """Turn to `state.current` and write the state; on any failure the former model serves on."""
    served = state.current
    assert served is not None
    server = ensure_model_server(settings, served.artifact, served.serve)
    expected = _ask(settings, server.url, server.model, served, golden)
    try:
        turn_gateway(settings, server.address, server.name)
        found = _ask(settings, settings.endpoint, served.alias, served, golden)
        if found != expected:
            raise ServingError(
                f"through {settings.endpoint} the golden utterances are answered {found!r}, "
                f"by {server.model} itself {expected!r}"
            )
        write_state(settings, state)
    except BaseException:
        _turn_back(settings, former)
        raise
    logger.info("%s serves %s as %r", settings.endpoint, server.model, served.alias)


def _turn_back(settings: Settings, former: ServedModel | None) -> None:
    server: ModelServer | None = None
    if former:
        server = find_model_server(settings, former.artifact, former.serve)
    if server:
        turn_gateway(settings, server.address, server.name)
    else:
        turn_gateway(settings, "", "")


def _ask(
    settings: Settings,
    base_url: str,
    model: str,
    served: ServedModel,
    golden: Sequence[Example],
) -> list[str]:
    """One at a time, so that batching cannot make equal models differ."""
    config = EvaluateConfig(concurrency=1)
    prompt, key = served.artifact.system_prompt, settings.read_api_key()
    answers = asyncio.run(predict(golden, base_url, key, model, prompt, config))
    return [answer.text for answer in answers]


def write_state(settings: Settings, state: ServingState) -> None:
    write_atomically(_state_path(settings), state.model_dump_json(indent=1))


def _state_path(settings: Settings) -> Path:
    return settings.home.resolve() / "serving.json"
