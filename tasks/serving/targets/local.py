"""Serving on this machine: model servers behind a gateway.

The candidate is loaded before the switch, and the previous model finishes its requests, so no
request fails. With merged weights the gateway is switched to another server; with adapters the
alias is switched to another adapter. `serving.json` is replaced atomically after the switch: after
a kill, `reconcile` restores the model that `serving.json` contains.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import httpx

from intent_core.errors import ConfigError, PromotionInProgressError, ServingError
from intent_core.files import file_lock
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import AliasFile, Trial, write_aliases
from tasks.models.local_cache import forget_models
from tasks.serving.gateway.nginx import (
    is_switched_to,
    read_gateway_key,
    serving_now,
    switch_gateway,
    wait_for_drain,
)
from tasks.serving.golden import require_golden
from tasks.serving.releases import Release, read_golden, require_release
from tasks.serving.state import (
    Drift,
    ServedModel,
    ServingState,
    is_same,
    read_state,
    since_now,
    write_state,
)
from tasks.serving.vllm.server import (
    ModelServer,
    describe_target,
    ensure_model_server,
    find_model_server,
    find_ready_server,
    is_ready,
    read_server_key,
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


class LocalTarget:
    """The gateway and the model servers of one INTENT_HOME."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> ServingState:
        return read_state(self._settings)

    def promote(self, served: ServedModel) -> ServedModel:
        with self.lock():
            state = self.read()
            former = state.current
            if former and is_same(served, former) and self.does_answer(former):
                served = former
            else:
                is_new = former is not None and former.artifact.digest != served.artifact.digest
                previous = former if is_new else state.previous
                served = self._make_current(served, former, previous)
            self.retire_others(served)
            forget_models(self._settings, self.read().model_names())
        return served

    def roll_back(self) -> ServedModel:
        """Serve the previous model; to be fast, test one golden utterance only."""
        settings = self._settings
        with self.lock():
            state = self.read()
            if state.previous is None or state.current is None:
                raise ConfigError("there is no previous model to roll back to")
            served = state.previous
            server = find_ready_server(settings, served.artifact, served.serve)
            server = server or ensure_model_server(settings, served.artifact, served.serve)
            shortest = sorted(served.golden, key=lambda answer: len(answer.text))[:1]
            key = read_server_key(settings, server)
            require_golden(server.url, key, server.model, served.artifact, shortest)
            try:
                served = self._switch(served, server)
                write_state(settings, ServingState(current=served, previous=state.current))
            except BaseException:
                self._restore(state.current, server)
                raise
            self.retire_others(served)
        return served

    def reconcile(self) -> tuple[ServedModel | None, list[str]]:
        settings, repairs = self._settings, []
        with self.lock():
            served = self.read().current
            if served is None:
                if find_process(settings.layout.processes, "gateway") and serving_now(settings):
                    switch_gateway(settings, "", "")
                    repairs.append("reverted an unfinished first promotion: no model is served")
            elif not self.does_answer(served):  # a process can be alive and not answer
                server = ensure_model_server(settings, served.artifact, served.serve)
                self._switch(served, server)
                repairs.append(f"{served.alias!r} serves {served.artifact.name} again")
            repairs += [f"stopped {name}" for name in self.retire_others(served)]
        return served, repairs

    def find_drift(self) -> Drift | None:
        active = serving_now(self._settings)
        served = self.read().current
        if active is None or self.is_promoting():
            return None
        if served is None and active:
            return Drift(
                "the gateway uses a model whose first promotion was interrupted",
                "reverted: no model is served",
            )
        if served is None or self.does_answer(served):
            return None
        return Drift(
            f"{served.artifact.name} should be served as {served.alias!r}, but does not answer",
            "restarted and served again",
        )

    def note_version(self, artifact: ModelArtifact, version: str) -> ServedModel | None:
        with self.lock():
            state = self.read()
            if state.current is None or state.current.artifact.digest != artifact.digest:
                return None
            served = state.current.model_copy(update={"version": version})
            if server := find_model_server(self._settings, served.artifact, served.serve):
                self._write_alias(served, server)
            write_state(self._settings, state.model_copy(update={"current": served}))
        return served

    def does_answer(self, served: ServedModel) -> bool:
        server = find_model_server(self._settings, served.artifact, served.serve)
        return self.is_served(served) and server is not None and is_ready(self._settings, server)

    def is_served(self, served: ServedModel) -> bool:
        """Whether gateway and alias point to a live server of exactly this model."""
        server = find_model_server(self._settings, served.artifact, served.serve)
        if server is None or not is_switched_to(self._settings, server.address, server.name):
            return False
        aliases = dict(AliasFile(self._settings.layout.alias_file(server.name)).read())
        target = describe_target(served.artifact, served.version, served.abstain_below)
        # Ignore a trial: the champion is served with or without it.
        is_ours = {n: t.model_copy(update={"trial": None}) == target for n, t in aliases.items()}
        return is_ours == {served.alias: True}

    def replicas(self) -> dict[str, str]:
        return {}

    def protected_models(self) -> set[str]:
        names = self.read().model_names()
        for path in self._settings.layout.aliases.glob("*.json"):
            for target in AliasFile(path).read().values():
                names |= {target.model, target.trial.model} if target.trial else {target.model}
        return names

    def require_servers_here(self) -> None:
        pass

    def start_trial(self, name: str, trial: dict[str, Any]) -> Trial:
        """Start a trial of an accepted model.

        Raises `ConfigError` unless candidate and champion are adapters on one server, which then
        counts the requests of both; `ServingError` for wrong golden answers.
        """
        settings = self._settings
        release = require_release(settings, name)
        with self.lock():
            served, server = self._require_served()
            if served.serve.mode != "adapter" or server.name != server_name(
                release.artifact, release.serve
            ):
                raise ConfigError(
                    f"{name} cannot share a server with {served.artifact.name}: a trial requires "
                    "serve.mode 'adapter', the same base model and the same serve settings for both"
                )
            if release.artifact.digest == served.artifact.digest:
                raise ConfigError(f"{name} is already served as {served.alias!r}")
            candidate = ensure_model_server(settings, release.artifact, release.serve)
            golden = read_golden(settings, release.artifact, release.serve)
            key = read_server_key(settings, candidate)
            require_golden(candidate.url, key, candidate.model, release.artifact, golden)
            started = _describe_trial(release, trial)
            self._write_alias(served, server, started)
        return started

    def stop_trial(self) -> None:
        with self.lock():
            self._write_alias(*self._require_served())

    def read_trial(self) -> dict[str, Any] | None:
        served, server = self._require_served()
        aliases = AliasFile(self._settings.layout.alias_file(server.name)).read()
        if aliases[served.alias].trial is None:
            return None
        headers = {"Authorization": f"Bearer {read_server_key(self._settings, server)}"}
        url = f"http://{server.address}/intent/status"
        try:
            response = httpx.get(url, headers=headers, timeout=10, trust_env=False)
            response.raise_for_status()
            trial: dict[str, Any] | None = response.json()["aliases"][served.alias]["trial"]
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise ServingError(
                f"could not read the trial's results from {server.name}: {error}"
            ) from error
        return trial

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Allow one promotion or rollback at a time; the kernel frees a killed process's lock.

        Raises `PromotionInProgressError` while another process holds the lock.
        """
        with contextlib.ExitStack() as stack:
            try:
                path = self._settings.layout.serving_lock
                stack.enter_context(file_lock(path, blocking=False))
            except BlockingIOError as error:
                raise PromotionInProgressError(
                    "another promotion or rollback is in progress: try again when it has finished"
                ) from error
            yield

    def is_promoting(self) -> bool:
        """Whether a promotion or rollback is in progress."""
        try:
            with self.lock():
                return False
        except PromotionInProgressError:
            return True

    def adopt(self, state: ServingState) -> None:
        """Replace the serving state; `reconcile` then applies it."""
        with self.lock():
            write_state(self._settings, state)

    def retire_others(self, served: ServedModel | None) -> list[str]:
        """Wait until other servers have answered their requests, then stop them; keep weights.

        Also stops servers of an interrupted promotion or a failed run, but not a server under
        evaluation. Returns the names of the stopped servers.
        """
        keep = server_name(served.artifact, served.serve) if served else ""
        folder = self._settings.layout.processes
        others = [
            record
            for record in list_processes(folder)
            if record.name.startswith("vllm-")
            and record.name != keep
            and not is_in_use(folder, record.name)
        ]
        if others:
            wait_for_drain(self._settings)
        for record in others:
            stop_process(folder, record)
        return [record.name for record in others]

    def _make_current(
        self, served: ServedModel, former: ServedModel | None, previous: ServedModel | None
    ) -> ServedModel:
        """Switch to the model and write the state; on any failure switch back."""
        settings = self._settings
        server = ensure_model_server(settings, served.artifact, served.serve)
        key = read_server_key(settings, server)
        require_golden(server.url, key, server.model, served.artifact, served.golden)
        try:
            served = self._switch(served, server)
            endpoint, key = settings.local_endpoint, read_gateway_key(settings)
            require_golden(endpoint, key, served.alias, served.artifact, served.golden)
            write_state(settings, ServingState(current=served, previous=previous))
        except BaseException:
            self._restore(former, server)
            raise
        logger.info("promoted: %s serves %s as %r", settings.endpoint, server.model, served.alias)
        return served

    def _switch(self, served: ServedModel, server: ModelServer) -> ServedModel:
        """Send new requests to this model; return it as served since now."""
        self._write_alias(served, server)
        if not is_switched_to(self._settings, server.address, server.name):
            switch_gateway(self._settings, server.address, server.name)
        return since_now(served)

    def _restore(self, former: ServedModel | None, server: ModelServer) -> None:
        former_server: ModelServer | None = None
        if former:
            former_server = find_model_server(self._settings, former.artifact, former.serve)
        if former and former_server:
            self._switch(former, former_server)
        else:
            switch_gateway(self._settings, "", "")
            write_aliases(self._settings.layout.alias_file(server.name), {})

    def _write_alias(
        self, served: ServedModel, server: ModelServer, trial: Trial | None = None
    ) -> None:
        target = describe_target(served.artifact, served.version, served.abstain_below)
        target = target.model_copy(update={"trial": trial})
        write_aliases(self._settings.layout.alias_file(server.name), {served.alias: target})

    def _require_served(self) -> tuple[ServedModel, ModelServer]:
        served = self.read().current
        server = (
            find_model_server(self._settings, served.artifact, served.serve) if served else None
        )
        if served is None or server is None or not self.is_served(served):
            raise ServingError("a trial needs a served model, but none answers: `intent status`")
        return served, server


def discard_candidate(settings: Settings, artifact: ModelArtifact, serve: ServeConfig) -> None:
    """Stop a rejected candidate's server on this machine, unless it serves callers."""
    served = read_state(settings).current
    is_current = served is not None and (served.artifact, served.serve) == (artifact, serve)
    if not is_current and serving_now(settings) != server_name(artifact, serve):
        stop_model_server(settings, artifact, serve)


def _describe_trial(release: Release, trial: dict[str, Any]) -> Trial:
    target = describe_target(release.artifact, release.version, release.abstain_below).model_dump(
        exclude={"trial"}
    )
    try:
        return Trial.model_validate({**target, "known_intents": release.intents, **trial})
    except ValueError as error:
        raise ConfigError(f"invalid trial settings: {error}") from error
