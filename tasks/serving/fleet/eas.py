"""The served model on PAI-EAS: replicas that follow the store, or two vLLM services in a group.

The group is the documents' own way: each of its two services has one model and a share of the
requests. A promotion updates the service that takes none, asks it the golden utterances at its own
address and then gives it its share; a rollback gives the shares back. What serves what stands in
the services' specifications, nowhere else.
"""

import datetime
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from intent_core.errors import ConfigError, IntentError
from intent_core.files import write_atomically
from tasks.alibaba.eas import EasService, EasServices
from tasks.alibaba.eas_specs import MODEL_VARIABLE, describe_fleet, describe_vllm
from tasks.serving.golden import require_golden
from tasks.serving.releases import Release, read_golden, require_release
from tasks.serving.targets.local import ServedModel, only_one
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tasks.storage.objects import MissingObjectError
from tasks.storage.open import open_store

logger = logging.getLogger(__name__)

ALL = 100
LARGEST_CANARY = 49
"""Percent; so the smaller share is always the canary's."""
_START_S = 1800
_KEYS, _API_KEY = "inference_keys", "api_key"


def deploy_fleet(settings: Settings, pai: PaiSettings, limit_s: float = _START_S) -> EasService:
    """Start replicas on EAS, or bring them to the image and settings of now, and wait for them.

    They serve what the store says: promotions are those of any fleet.
    """
    services, spec = EasServices(pai), describe_fleet(settings, pai)
    # Read-only there: what a replica would make for itself must be in it.
    keys = open_store(pai.secrets)
    keys.put_if_absent(_API_KEY, settings.read_api_key().encode())
    former = services.put(spec)
    found = services.wait(pai.service, former.latest_version if former else 0, limit_s)
    admit_token(settings, pai, found)
    return found


def admit_token(settings: Settings, pai: PaiSettings, service: EasService) -> None:
    """EAS's token is a caller's key: EAS passes it on, so the replicas must take it.

    This machine has it first among its own, for `intent ask` and the end of a promotion.
    """
    line = f"eas-{service.name} {service.token.get_secret_value()}"
    keys = open_store(pai.secrets)
    try:
        theirs = keys.read(_KEYS).decode()
    except MissingObjectError:
        theirs = ""
    if (now := _with_first(line, theirs)) != theirs:
        keys.put(_KEYS, now.encode())
    if settings.inference_keys is None:
        path = settings.ensure_inference_keys()
        write_atomically(path, _with_first(line, path.read_text(encoding="utf-8")), 0o600)


class ModelGroup:
    """The two services of a group, `<service>_a` and `<service>_b`."""

    def __init__(self, settings: Settings, pai: PaiSettings) -> None:
        self._settings, self._pai = settings, pai
        self._services = EasServices(pai)

    def read(self) -> list[EasService]:
        """Those there are, the one with the largest share of the requests first."""
        found = [self._services.find(name) for name in self._names()]
        return sorted((one for one in found if one), key=lambda one: -one.share)

    def promote(self, name: str, share: int = ALL) -> ServedModel | None:
        """Give an accepted model a share of the requests; None: only a canary's.

        Raises `ServingError`, with the shares as before, when it does not start or answers
        otherwise than in its evaluation.
        """
        if share != ALL and not 1 <= share <= LARGEST_CANARY:
            raise ConfigError(f"a share is 1 to {LARGEST_CANARY} percent, or {ALL}; not {share}")
        with only_one(self._settings):
            release = require_release(self._settings, name)
            before = self.read()
            canary = _find_canary(before)
            if canary and _model(canary) != name:
                raise ConfigError(
                    f"{_model(canary)} takes {canary.share} % of the requests: promote it with "
                    f"--share {ALL}, or `intent pai rollback`"
                )
            current = _first(one for one in before if one.share and one is not canary)
            if current is None:
                share = ALL  # there is nobody to take the rest
            if current and _model(current) == name:
                if canary is None and current.status == "Running":
                    return self._describe(release)
                raise ConfigError(f"{name} takes {current.share} % of the requests already")
            target = self._start(release, before, current)
            golden = read_golden(self._settings, release.artifact, release.serve)
            url = f"{target.endpoint.rstrip('/')}/v1"
            key, alias = target.token.get_secret_value(), release.serve.alias
            require_golden(url, key, alias, release.artifact, golden)
            with self._or_back(before):
                self._services.release(target.name, share)
                if current:
                    self._services.release(current.name, ALL - share)
                if share == ALL:
                    door = self._services.find_door(self._pai.service)
                    key = door.token.get_secret_value()
                    require_golden(door.url, key, alias, release.artifact, golden)
            return self._describe(release) if share == ALL else None

    def roll_back(self) -> ServedModel:
        """End a canary; without one give all requests to the model that had them before."""
        with only_one(self._settings):
            before = self.read()
            canary = _find_canary(before)
            others = [one for one in before if one is not canary]
            served = others[0] if canary else _first(one for one in before if not one.share)
            if served is None or not _model(served):
                raise ConfigError("there is no earlier model to roll back to")
            if served.status != "Running":
                raise ConfigError(
                    f"service {served.name} with {_model(served)} is {served.status}: start it in "
                    "EAS's console, or promote that model again"
                )
            with self._or_back(before):
                self._services.release(served.name, ALL)
                for one in before:
                    if one.name != served.name and one.share:
                        self._services.release(one.name, 0)
            return self._describe(require_release(self._settings, _model(served)))

    def _start(
        self, release: Release, before: list[EasService], current: EasService | None
    ) -> EasService:
        """The service of that model, running; the one that serves stays as it is."""
        taken = current.name if current else ""
        name = next(name for name in self._names() if name != taken)
        found = _first(one for one in before if one.name == name)
        if found and found.status == "Running" and _model(found) == release.artifact.name:
            return found
        spec = describe_vllm(self._settings, self._pai, name, release.artifact, release.serve)
        former = self._services.put(spec)
        after = former.latest_version if former else 0
        return self._services.wait(name, after, max(_START_S, release.serve.startup_timeout_s))

    @contextmanager
    def _or_back(self, before: list[EasService]) -> Iterator[None]:
        """Whatever goes wrong, the shares are those of before, as far as EAS answers."""
        try:
            yield
        except BaseException:
            shares = dict.fromkeys(self._names(), 0) | {one.name: one.share for one in before}
            # Those that take requests first: the group is never without.
            for name, share in sorted(shares.items(), key=lambda pair: -pair[1]):
                try:
                    if share or self._services.find(name):
                        self._services.release(name, share)
                except IntentError as error:
                    logger.error("service %s should take %d %%: %s", name, share, error)
            raise

    def _names(self) -> tuple[str, str]:
        return f"{self._pai.service}_a", f"{self._pai.service}_b"

    def _describe(self, release: Release) -> ServedModel:
        return ServedModel(
            artifact=release.artifact,
            serve=release.serve,
            endpoint=self._services.find_door(self._pai.service).url,
            alias=release.serve.alias,
            version=release.version,
            project=release.project,
            since=datetime.datetime.now(datetime.UTC),
        )


def _find_canary(services: list[EasService]) -> EasService | None:
    """Of two that take requests the one that takes less."""
    sharing = [one for one in services if one.share]
    return sharing[1] if len(sharing) > 1 else None


def _model(service: EasService) -> str:
    return service.environment.get(MODEL_VARIABLE, "")


def _first(services: Iterator[EasService]) -> EasService | None:
    return next(services, None)


def _with_first(line: str, text: str) -> str:
    name = line.split()[0]
    others = [one for one in text.splitlines() if one.split()[:1] != [name]]
    return "\n".join([line, *others]) + "\n"
