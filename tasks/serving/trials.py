"""A candidate beside the champion, for a share of the callers: started, looked at, ended.

The comparison and its limits are the model server's own affair (`intent_core.serving.trial.trial`);
here a trial is written into the alias file and read back from the server.
"""

from typing import Any

import httpx

from intent_core.errors import ConfigError, ServingError
from intent_core.serving.access.aliases import AliasFile, Target, Trial, write_aliases
from tasks.serving.golden import require_golden
from tasks.serving.releases import Release, read_golden, require_release
from tasks.serving.targets.local import ServedModel, is_served, only_one, read_state
from tasks.serving.vllm.server import (
    ModelServer,
    describe_target,
    ensure_model_server,
    find_model_server,
    server_name,
)
from tasks.settings import Settings


def start_trial(settings: Settings, name: str, trial: dict[str, Any]) -> Trial:
    """Give an accepted model a share of the requests for the alias; `trial` as in `Trial`.

    Raises `ConfigError` unless both are adapters of one base on one server, since only there one
    door sees both; `ServingError` when the candidate does not answer as in its evaluation.
    """
    release = require_release(settings, name)
    with only_one(settings):
        served, server = _require_served(settings)
        if served.serve.mode != "adapter" or server.name != server_name(
            release.artifact, release.serve
        ):
            raise ConfigError(
                f"{name} would not share a server with {served.artifact.name}: a trial needs "
                "serve.mode 'adapter', one base model and the same serve settings for both"
            )
        if release.artifact.digest == served.artifact.digest:
            raise ConfigError(f"{name} is what {served.alias!r} serves already")
        candidate = ensure_model_server(settings, release.artifact, release.serve)
        golden = read_golden(settings, release.artifact, release.serve)
        key = settings.read_api_key()
        require_golden(candidate.url, key, candidate.model, release.artifact, golden)
        started = _describe(release, trial)
        _write(settings, served, server, started)
    return started


def stop_trial(settings: Settings) -> None:
    """All requests are the champion's again."""
    with only_one(settings):
        served, server = _require_served(settings)
        _write(settings, served, server, None)


def read_trial(settings: Settings) -> dict[str, Any] | None:
    """The trial under way and what it has found, as the server tells it; None without one."""
    served, server = _require_served(settings)
    if AliasFile(settings.layout.alias_file(server.name)).read()[served.alias].trial is None:
        return None
    headers = {"Authorization": f"Bearer {settings.read_api_key()}"}
    try:
        answer = httpx.get(f"http://{server.address}/intent/status", headers=headers, timeout=10)
        told: dict[str, Any] | None = answer.raise_for_status().json()["aliases"][served.alias][
            "trial"
        ]
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise ServingError(f"{server.name} does not tell of its trial: {error}") from error
    return told


def _require_served(settings: Settings) -> tuple[ServedModel, ModelServer]:
    if settings.fleet:
        raise ConfigError("a fleet has no trials: each replica counts for itself; use one machine")
    served = read_state(settings).current
    server = find_model_server(settings, served.artifact, served.serve) if served else None
    if served is None or server is None or not is_served(settings, served):
        raise ServingError("no model is served that a trial could run beside: `intent status`")
    return served, server


def _describe(release: Release, trial: dict[str, Any]) -> Trial:
    named = describe_target(release.artifact, release.version).model_dump(exclude={"trial"})
    try:
        return Trial.model_validate({**named, "known_intents": release.intents, **trial})
    except ValueError as error:
        raise ConfigError(f"not a trial: {error}") from error


def _write(
    settings: Settings, served: ServedModel, server: ModelServer, trial: Trial | None
) -> None:
    target = describe_target(served.artifact, served.version)
    found = Target.model_validate({**dict(target), "trial": trial})
    write_aliases(settings.layout.alias_file(server.name), {served.alias: found})
