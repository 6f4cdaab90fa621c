"""Promotion and its reverse: which model the public address serves, and since when.

The candidate is warm before the switch, and what it was asked before it answers to the end, so no
caller sees the change. With whole weights the gateway turns to another server; with adapters the
alias turns to another adapter. What is served stands in `serving.json`, written in one step after
the switch: whoever dies before that leaves a state from which `reconcile` goes back, and after it
one from which it goes on.
"""

import contextlib
import datetime
import logging
from collections.abc import Iterator

from pydantic import AwareDatetime, BaseModel, ConfigDict

from intent_core.errors import ConfigError, PromotionInProgressError
from intent_core.files import file_lock, write_atomically
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import AliasFile, write_aliases
from tasks.models.local_cache import forget_models
from tasks.serving.gateway.nginx import is_turned_to, serving_now, turn_gateway, wait_for_drain
from tasks.serving.golden import GoldenAnswer, require_golden
from tasks.serving.vllm.server import (
    ModelServer,
    describe_target,
    ensure_model_server,
    find_model_server,
    find_ready_server,
    is_ready,
    server_name,
    stop_model_server,
)
from tasks.settings import Settings
from tasks.system.processes import (
    find_process,
    is_in_use,
    list_processes,
    stop_process,
)

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
    golden: tuple[GoldenAnswer, ...] = ()
    """What it must answer wherever it is served."""
    since: AwareDatetime


class ServingState(BaseModel):
    """The served model and the one before it, which a rollback returns to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: ServedModel | None = None
    previous: ServedModel | None = None


def read_state(settings: Settings) -> ServingState:
    path = settings.layout.serving_state
    return ServingState.model_validate_json(path.read_bytes()) if path.exists() else ServingState()


def promote_model(settings: Settings, served: ServedModel) -> ServedModel:
    """Turn the public address to this model; the model served before stays until it is done.

    Raises `ServingError`, with the former model serving, when the golden utterances are
    answered otherwise than in the evaluation, by the server itself or at the public address.
    """
    with only_one(settings):
        state = read_state(settings)
        former = state.current
        if former and is_same(served, former) and does_answer(settings, former):
            served = former
        else:
            is_new = former is not None and former.artifact.digest != served.artifact.digest
            previous = former if is_new else state.previous
            _turn_to(settings, ServingState(current=served, previous=previous), former)
        retire_others(settings, served)
        now = read_state(settings)
        forget_models(settings, [one.artifact.name for one in (now.current, now.previous) if one])
    return served


def note_version(settings: Settings, artifact: ModelArtifact, version: str) -> ServedModel | None:
    """The registry's version of a model that was promoted without one; None: another is served."""
    with only_one(settings):
        state = read_state(settings)
        if state.current is None or state.current.artifact.digest != artifact.digest:
            return None
        served = state.current.model_copy(update={"version": version})
        if server := find_model_server(settings, served.artifact, served.serve):
            _name(settings, served, server)
        write_state(settings, state.model_copy(update={"current": served}))
    return served


def roll_back(settings: Settings) -> ServedModel:
    """Return to the model served before; needs neither MLflow nor Prefect.

    Callers wait for it, so it is asked one golden utterance only, before the switch.
    """
    with only_one(settings):
        state = read_state(settings)
        if state.previous is None or state.current is None:
            raise ConfigError("there is no earlier model to roll back to")
        served = state.previous.model_copy(update={"since": datetime.datetime.now(datetime.UTC)})
        server = find_ready_server(settings, served.artifact, served.serve) or ensure_model_server(
            settings, served.artifact, served.serve
        )
        shortest = sorted(served.golden, key=lambda answer: len(answer.text))[:1]
        key = settings.read_api_key()
        require_golden(server.url, key, server.model, served.artifact, shortest)
        try:
            _switch(settings, served, server)
            write_state(settings, ServingState(current=served, previous=state.current))
        except BaseException:
            _turn_back(settings, state.current, server)
            raise
        retire_others(settings, served)
    return served


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """One promotion or rollback at a time; the kernel frees the lock of a killed one."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(settings.layout.serving_lock, blocking=False))
        except BlockingIOError as error:
            raise PromotionInProgressError(
                "another promotion or rollback is under way: try again when it has ended"
            ) from error
        yield


def is_promoting(settings: Settings) -> bool:
    """Is somebody moving the served model at this moment?"""
    try:
        with only_one(settings):
            return False
    except PromotionInProgressError:
        return True


def is_same(one: ServedModel, other: ServedModel) -> bool:
    """The same model, served in the same way under the same names?"""
    return one.model_copy(update={"since": other.since}) == other


def reconcile(settings: Settings) -> tuple[ServedModel | None, list[str]]:
    """Make true what `serving.json` says, after a restart or a promotion that was killed.

    Returns the served model and what had to be done.
    """
    repairs = []
    with only_one(settings):
        served = read_state(settings).current
        if served is None:
            if find_process(settings.layout.processes, "gateway") and serving_now(settings):
                turn_gateway(settings, "", "")
                repairs.append("took an unfinished first promotion back: nothing is served")
        elif not does_answer(settings, served):  # a server may live and hang
            server = ensure_model_server(settings, served.artifact, served.serve)
            _switch(settings, served, server)
            repairs.append(f"{served.alias!r} is {served.artifact.name} again")
        repairs += [f"stopped {name}" for name in retire_others(settings, served)]
    return served, repairs


def is_served(settings: Settings, served: ServedModel) -> bool:
    """Does the public name turn to a living server of this very model?"""
    server = find_model_server(settings, served.artifact, served.serve)
    if server is None or not is_turned_to(settings, server.address, server.name):
        return False
    named = dict(AliasFile(settings.layout.alias_file(server.name)).read())
    target = describe_target(served.artifact, served.version)
    found = named.get(served.alias)
    # A trial beside it takes nothing from what is served.
    return (
        len(named) == 1 and found is not None and found.model_copy(update={"trial": None}) == target
    )


def does_answer(settings: Settings, served: ServedModel) -> bool:
    """The same, and the server says so itself now?"""
    server = find_model_server(settings, served.artifact, served.serve)
    return is_served(settings, served) and server is not None and is_ready(settings, server)


def retire_others(settings: Settings, served: ServedModel | None) -> list[str]:
    """Let former servers answer what they have begun, then stop them. Their weights stay.

    Whatever an interrupted promotion or a failed run has left goes with them, but for a server
    that is being evaluated. Returns the names of those that were stopped.
    """
    keep = server_name(served.artifact, served.serve) if served else ""
    folder = settings.layout.processes
    others = [r for r in list_processes(folder) if r.name.startswith("vllm-") and r.name != keep]
    others = [record for record in others if not is_in_use(folder, record.name)]
    if others:
        wait_for_drain(settings)
    for record in others:
        stop_process(folder, record)
    return [record.name for record in others]


def discard_candidate(settings: Settings, artifact: ModelArtifact, serve: ServeConfig) -> None:
    """Stop a rejected candidate's server, unless it is what callers are being served."""
    served = read_state(settings).current
    is_current = served is not None and (served.artifact, served.serve) == (artifact, serve)
    if not is_current and serving_now(settings) != server_name(artifact, serve):
        stop_model_server(settings, artifact, serve)


def _turn_to(settings: Settings, state: ServingState, former: ServedModel | None) -> None:
    """Turn to `state.current` and write the state; on any failure the former model serves on."""
    served = state.current
    assert served is not None
    key = settings.read_api_key()
    server = ensure_model_server(settings, served.artifact, served.serve)
    require_golden(server.url, key, server.model, served.artifact, served.golden)
    try:
        _switch(settings, served, server)
        require_golden(settings.local_endpoint, key, served.alias, served.artifact, served.golden)
        write_state(settings, state)
    except BaseException:
        _turn_back(settings, former, server)
        raise
    logger.info("%s serves %s as %r", settings.endpoint, server.model, served.alias)


def _switch(settings: Settings, served: ServedModel, server: ModelServer) -> None:
    """From here on new requests are this model's."""
    _name(settings, served, server)
    if not is_turned_to(settings, server.address, server.name):
        turn_gateway(settings, server.address, server.name)


def _name(settings: Settings, served: ServedModel, server: ModelServer) -> None:
    target = describe_target(served.artifact, served.version)
    write_aliases(settings.layout.alias_file(server.name), {served.alias: target})


def _turn_back(settings: Settings, former: ServedModel | None, server: ModelServer) -> None:
    theirs: ModelServer | None = None
    if former:
        theirs = find_model_server(settings, former.artifact, former.serve)
    if former and theirs:
        _switch(settings, former, theirs)
    else:
        turn_gateway(settings, "", "")
        write_aliases(settings.layout.alias_file(server.name), {})


def write_state(settings: Settings, state: ServingState) -> None:
    write_atomically(settings.layout.serving_state, state.model_dump_json(indent=1))


def adopt_state(settings: Settings, state: ServingState) -> None:
    """Have this machine serve that from now on; `reconcile` makes it so."""
    with only_one(settings):
        write_state(settings, state)
