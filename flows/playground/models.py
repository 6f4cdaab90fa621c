"""The models that the page of `intent try` queries: the served one, and a candidate."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from intent_client import Answer, IntentClient
from pydantic import BaseModel, ConfigDict, SecretStr

from intent_core.errors import ConfigError, DataError, IntentError, ServingError
from intent_core.language.calls import Call, sort_named
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.serving.access.aliases import is_content_name
from tasks.serving.asking import client_errors, read_calls
from tasks.serving.releases import Release
from tasks.serving.targets import open_target
from tasks.serving.targets.local import discard_candidate
from tasks.serving.vllm.server import (
    ensure_model_server,
    find_model_server,
    read_server_key,
    server_name,
)
from tasks.settings import Settings
from tasks.storage.layout import MODELS, release_prefix
from tasks.storage.step_results import get_store, read_finished
from tasks.system.processes import in_use, is_in_use

_TIMEOUT_S = 30
# A user waits for the page: report a server that is down soon.
_MAX_RETRIES = 1


class ModelEndpoint(BaseModel):
    """Address, model name and key of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    key: SecretStr
    model: str
    """Alias or content name."""
    system_prompt: str = ""
    """Sent with requests to a content name, for which the server adds no system prompt."""
    version: str = ""
    """Version in the registry, if the server does not report it."""

    def connect(self) -> IntentClient:
        """Return a client. Raises `ConfigError` for an invalid address or key."""
        with client_errors(invalid=ConfigError):
            return IntentClient(
                self.base_url,
                self.key.get_secret_value(),
                alias=self.model,
                system_prompt=self.system_prompt,
                timeout_s=_TIMEOUT_S,
                max_retries=_MAX_RETRIES,
                with_confidence=True,
            )


class Reply(BaseModel):
    """A model's answer, or the error in `problem`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Answer | None = None
    calls: tuple[Call, ...] | None = None
    """The calls of the answer; None if `error` is set."""
    error: str | None = None
    """Why the answer's text is not a valid call."""
    version: str = ""
    problem: str = ""


def find_served(settings: Settings) -> ModelEndpoint:
    """Return the served model. Raises `ServingError` if no model is being served."""
    served = open_target(settings).read().current
    if served is None:
        raise ServingError("no model is being served: run the pipeline first (`make demo`)")
    key = SecretStr(settings.read_inference_key())
    return ModelEndpoint(base_url=settings.local_endpoint, key=key, model=served.alias)


@contextlib.contextmanager
def open_candidate(settings: Settings, candidate: str, alias: str = "") -> Iterator[ModelEndpoint]:
    """Yield the endpoint of a candidate: a content name, or the base URL of another server.

    For a content name a model server is started if needed, and stopped afterwards if nothing else
    uses it. Raises `ConfigError` for an unknown name, and for a base URL without a key.
    """
    if "://" in candidate:
        yield _find_elsewhere(settings, candidate, alias)
        return
    artifact, serve, version = _find_candidate(settings, candidate)
    name, folder = server_name(artifact, serve), settings.layout.processes
    ran_before = find_model_server(settings, artifact, serve) is not None
    try:
        with in_use(folder, name):
            server = ensure_model_server(settings, artifact, serve)
            yield ModelEndpoint(
                base_url=server.url,
                key=SecretStr(read_server_key(settings, server)),
                model=server.model,
                system_prompt=artifact.system_prompt,
                version=version,
            )
    finally:
        if not ran_before and not is_in_use(folder, name):
            discard_candidate(settings, artifact, serve)


def ask_all(
    settings: Settings, utterance: str, candidate: ModelEndpoint | None
) -> tuple[Reply, ...]:
    """Query the served model and the candidate at the same time; return both replies."""

    def ask(endpoint: ModelEndpoint | None) -> Reply:
        try:
            endpoint = endpoint or find_served(settings)
            with endpoint.connect() as client, client_errors(invalid=DataError):
                answer = client.ask_text(utterance)
        except IntentError as error:
            return Reply(problem=str(error))
        return read_reply(answer, endpoint.version)

    endpoints = (None,) if candidate is None else (None, candidate)
    with ThreadPoolExecutor(len(endpoints)) as pool:
        return tuple(pool.map(ask, endpoints))


def read_reply(answer: Answer, version: str) -> Reply:
    """Return the reply of an answer; `version` is used if the server sent none."""
    calls, error = read_calls(answer.text)
    if error and answer.is_cut:
        error += " (the answer was cut off)"
    return Reply(answer=answer, calls=calls, error=error, version=answer.version or version)


def do_differ(replies: Sequence[Reply]) -> bool | None:
    """Return whether two answers contain different calls; None if there are not two answers."""
    answered = [(reply, reply.answer.text) for reply in replies if reply.answer]
    if len(answered) < 2:
        return None
    (first, text), (second, other) = answered
    if first.calls is None and second.calls is None:
        return text != other
    return sort_named(first.calls or ()) != sort_named(second.calls or ())


def list_unlike(calls: Sequence[Call] | None, others: Sequence[Call] | None) -> list[Call]:
    """Return the calls that are not among those of the other answer, if both have calls."""
    if calls is None or others is None:
        return []
    return [call for call in calls if sort_named([call])[0] not in sort_named(others)]


def _find_elsewhere(settings: Settings, base_url: str, alias: str) -> ModelEndpoint:
    if settings.candidate_key is None:
        raise ConfigError(f"INTENT_CANDIDATE_KEY is not set: set it to the API key of {base_url}")
    served = open_target(settings).read().current
    model = alias or (served.alias if served else "intent")
    endpoint = ModelEndpoint(base_url=base_url, key=settings.candidate_key, model=model)
    endpoint.connect().close()
    return endpoint


def _find_candidate(settings: Settings, name: str) -> tuple[ModelArtifact, ServeConfig, str]:
    """Return a model, its serve section and its version.

    A model that no gate accepted is served with the settings of the served model.
    """
    if is_content_name(name):
        store = get_store(settings)
        if release := read_finished(store, release_prefix(name), Release):
            return release.artifact, release.serve, release.version
        served = open_target(settings).read().current
        artifact = read_finished(store, MODELS.key(name), ModelArtifact)
        if artifact and served:
            return artifact, served.serve, ""
    raise ConfigError(
        f"model {name!r} not found in the store: give a content name such as intent-3f2a9c01b7de "
        "(see the run's page or `intent status`), or the base URL of a server"
    )
