"""Parse the Dockerfiles into instructions, and compose.yaml into a strict model.

No available package contains the schema of the Compose specification, so `Compose` models only the
fields that our file uses; any other field is refused.
"""

import re
import shlex
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tasks.settings import CHECKOUT

FOLDER = CHECKOUT / "docker"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))


class Instruction(NamedTuple):
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def read_dockerfile(path: Path) -> list[Instruction]:
    lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x.lstrip()[:1] != "#"]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [Instruction(name, text) for name, text in found]


def last_stage(path: Path) -> list[Instruction]:
    """Return the instructions of the last stage, which becomes the image."""
    instructions = read_dockerfile(path)
    starts = [number for number, one in enumerate(instructions) if one.name == "FROM"]
    return instructions[starts[-1] :]


def defaults_of(path: Path) -> dict[str, str]:
    """Return the build arguments with their defaults."""
    found = (one.text.partition("=") for one in read_dockerfile(path) if one.name == "ARG")
    return {name: value.strip('"') for name, _, value in found}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Build(_Part):
    context: Literal[".."]
    dockerfile: str
    args: dict[str, str] = {}


class Healthcheck(_Part):
    disable: bool = False
    test: list[str] = []
    interval: str = "30s"
    timeout: str = "30s"
    retries: int = 3


class Condition(_Part):
    condition: Literal["service_healthy", "service_completed_successfully"]


class Device(_Part):
    driver: Literal["nvidia"]
    device_ids: list[str]
    capabilities: list[str]


class Reservations(_Part):
    devices: list[Device]


class Resources(_Part):
    reservations: Reservations


class Deploy(_Part):
    resources: Resources


class Attachment(_Part):
    aliases: list[str] = []


class Logging(_Part):
    driver: Literal["local"]
    options: dict[str, str]


class Service(_Part):
    image: str
    build: Build | None = None
    command: list[str] = []
    environment: dict[str, str] = {}
    secrets: list[str] = []
    volumes: list[str] = []
    networks: list[str] | dict[str, Attachment]
    ports: list[str] = []
    profiles: list[Literal["cpu", "gpu"]] = []
    depends_on: dict[str, Condition] = {}
    healthcheck: Healthcheck | None = None
    deploy: Deploy | None = None
    user: str = ""
    hostname: str = ""
    init: bool = False
    read_only: bool = False
    restart: Literal["no", "unless-stopped"]
    tmpfs: list[str] = []
    cap_drop: list[str]
    security_opt: list[str]
    stop_grace_period: str
    shm_size: str = ""
    logging: Logging

    @property
    def aliases(self) -> set[str]:
        if isinstance(self.networks, list):
            return set()
        return {alias for one in self.networks.values() for alias in one.aliases}


class Secret(_Part):
    file: str


class Network(_Part):
    internal: bool = False


class Empty(_Part):
    pass


class Compose(_Part):
    name: str
    services: dict[str, Service]
    secrets: dict[str, Secret]
    volumes: dict[str, Empty]
    networks: dict[str, Network]
    parts: dict[str, object] = Field(exclude=True)


def read_compose() -> Compose:
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    parts = {name: document.pop(name) for name in list(document) if name.startswith("x-")}
    return Compose.model_validate({**document, "parts": parts}, strict=True)


def settled(text: str) -> str:
    """Replace `${NAME:-default}` by the default, as Compose does if NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
