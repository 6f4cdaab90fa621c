"""Ways to switch a served name from one version to another, and back."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import httpx
from known_answers import Known
from serving_home import PlainServer, start_gateway
from serving_load import Target

from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig
from intent_core.training.protocol import ADAPTER_FOLDER
from tasks.local_services.services import stop_services
from tasks.models.adapters import fetch_base
from tasks.models.local_cache import fetch_model
from tasks.serving.state import new_served_model
from tasks.serving.targets.local import LocalTarget
from tasks.serving.vllm.server import ensure_model_server
from tasks.settings import Settings

Inplace = Literal["new", "kept", "same"]


class ServingMethod(Protocol):
    """A way to serve two versions, 0 and 1, under one name."""

    serve: ServeConfig
    """Serve section; contenders with the same mode share the known answers."""
    labels: Sequence[str]
    """Label of an answer by version; empty if answers have no label."""
    takes_a_start: bool
    """Whether each switch starts a process."""
    died: int
    """How often a server died or failed to load."""

    def find_alone(self, version: int) -> Target:
        """Return the target of a version, without other load."""

    def start(self, known: Known) -> Target:
        """Serve version 0 and return the target for callers."""

    def switch(self, version: int) -> None:
        """Switch, and return when an operator would consider the switch finished."""

    def mend(self) -> None:
        """Restart a server that died."""

    def stop(self) -> None: ...


class Promoted:
    """This pipeline: `promote` through the gateway, in the mode of `serve`."""

    died = 0

    def __init__(
        self, settings: Settings, artifacts: Sequence[ModelArtifact], serve: ServeConfig
    ) -> None:
        self.serve = serve
        self.labels: Sequence[str] = [artifact.name for artifact in artifacts]
        self.takes_a_start = serve.mode == "merged"
        self._settings, self._artifacts = settings, artifacts
        self._known: Known | None = None

    def find_alone(self, version: int) -> Target:
        artifact = self._artifacts[version]
        server = ensure_model_server(self._settings, artifact, self.serve)
        key = self._settings.read_api_key()
        return Target(server.url, key, server.model, artifact.system_prompt)

    def start(self, known: Known) -> Target:
        self._known = known
        start_gateway(self._settings)
        self.switch(0)
        prompt = self._artifacts[0].system_prompt
        key = self._settings.read_inference_key()
        return Target(self._settings.endpoint, key, self.serve.alias, prompt)

    def switch(self, version: int) -> None:
        assert self._known is not None
        served = new_served_model(
            self._settings,
            self._artifacts[version],
            self.serve,
            project="benchmark",
            version=str(version),
            golden=self._known.golden[version],
        )
        LocalTarget(self._settings).promote(served)

    def roll_back(self) -> None:
        LocalTarget(self._settings).roll_back()

    def mend(self) -> None:
        """Do nothing: these servers are not expected to die, and failures would show it."""

    def stop(self) -> None:
        stop_services(self._settings, lambda line: None)
        self._settings.layout.serving_state.unlink(missing_ok=True)


class LoadInplace:
    """vLLM's `load_inplace`: new weights are loaded under the same adapter name while it serves."""

    labels: Sequence[str] = ()
    takes_a_start = False
    _NAME = "adapted"

    def __init__(
        self,
        settings: Settings,
        artifacts: Sequence[ModelArtifact],
        serve: ServeConfig,
        inplace: Inplace,
    ) -> None:
        self.serve, self.died, self._placed = serve, 0, 0
        self._settings, self._artifacts, self._inplace = settings, artifacts, inplace
        self._server = PlainServer(settings, "load-inplace")
        self._folder = self._place(0)

    def _adapter(self, version: int) -> Path:
        return fetch_model(self._settings, self._artifacts[version]) / ADAPTER_FOLDER

    def _place(self, version: int) -> Path:
        """Copy the adapter to a new folder, or over the previous one."""
        if self._inplace != "same":
            self._placed += 1
        folder = self._settings.layout.work / "inplace" / f"adapter-{self._placed}"
        return shutil.copytree(self._adapter(version), folder, dirs_exist_ok=True)

    def _serve(self) -> None:
        self._server.stop()
        base = fetch_base(self._settings, self._artifacts[0])
        adapter = f"{self._NAME}={self._folder}"
        self._server.start(self.serve, base, "base", {"lora-modules": [adapter]})

    def _load(self, name: str, folder: Path, in_place: bool) -> None:
        answer = httpx.post(
            f"{self._server.url}/load_lora_adapter",
            json={"lora_name": name, "lora_path": str(folder), "load_inplace": in_place},
            headers={"Authorization": f"Bearer {self._server.key}"},
            timeout=60,
            trust_env=False,
        )
        answer.raise_for_status()

    def _target(self, name: str) -> Target:
        prompt = self._artifacts[0].system_prompt
        return Target(self._server.url, self._server.key, name, prompt)

    def find_alone(self, version: int) -> Target:
        if self._server.find() is None:
            self._serve()
        self._load(f"alone-{version}", self._adapter(version), in_place=False)
        return self._target(f"alone-{version}")

    def start(self, known: Known) -> Target:
        if self._server.find() is None:
            self._serve()
        return self._target(self._NAME)

    def switch(self, version: int) -> None:
        previous, self._folder = self._folder, self._place(version)
        try:
            self._load(self._NAME, self._folder, in_place=True)
        except httpx.HTTPError as error:
            sys.stderr.write(f"load_inplace: {error!r}\n")
            self._count_and_serve()
        if self._inplace == "new":
            shutil.rmtree(previous)

    def mend(self) -> None:
        if self._server.find() is None or self._is_dead():
            self._count_and_serve()

    def _count_and_serve(self) -> None:
        self.died += 1
        sys.stderr.write("load_inplace: the server died; restarting\n")
        self._serve()

    def _is_dead(self) -> bool:
        """Return whether the server reports that its engine died; a slow server is alive."""
        try:
            return httpx.get(self._server.health_url, timeout=5, trust_env=False).status_code == 503
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self._server.stop()


class Restart:
    """Restart: vLLM with merged weights and its own key check, restarted with the other weights."""

    labels: Sequence[str] = ()
    takes_a_start = True
    died = 0
    _NAME = "intent"

    def __init__(
        self, settings: Settings, artifacts: Sequence[ModelArtifact], serve: ServeConfig
    ) -> None:
        self.serve = serve
        self._settings, self._artifacts = settings, artifacts
        self._server = PlainServer(settings, "restart")
        self._now = -1

    def find_alone(self, version: int) -> Target:
        if version != self._now:
            self.switch(version)
        prompt = self._artifacts[version].system_prompt
        return Target(self._server.url, self._server.key, self._NAME, prompt)

    def start(self, known: Known) -> Target:
        return self.find_alone(0)

    def switch(self, version: int) -> None:
        self._server.stop()
        weights = fetch_model(self._settings, self._artifacts[version])
        self._server.start(self.serve, weights, self._NAME)
        self._now = version

    def mend(self) -> None:
        """Do nothing: a failed restart raises."""

    def stop(self) -> None:
        self._server.stop()
