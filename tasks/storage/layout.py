"""The layout of the store: every area, the keys in it, and what may be done to them.

No other module spells a prefix of the store. What else a bucket contains belongs to others.
"""

import hashlib
import re
from typing import NamedTuple

from intent_core.datasets.manifest import DatasetManifest
from intent_core.evaluation.report import REPORT_VERSION
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig, ServeConfig, fingerprint


class Area(NamedTuple):
    """The objects of one kind: those whose key starts with the area's name and a slash."""

    name: str
    keys: str
    """Pattern of what follows the name and its slash in a key."""
    closed: str = ""
    """Pattern of the folders that a manifest closes: without one nobody reads them, and the step
    that needs one uploads it again. Other folders are a person's, such as base models."""
    aborts_uploads: bool = True
    """Whether unfinished uploads are deleted when they are old."""
    may_clean: bool = False
    """Whether `intent clean` may remove objects."""

    @property
    def prefix(self) -> str:
        return f"{self.name}/"

    def key(self, *parts: str) -> str:
        return "/".join((self.name, *parts))


_FOLDERS, _MANIFESTS = "[^/]+/.+", "[^/]+/manifest\\.json"
_FINGERPRINT = "[0-9a-f]{16,64}"

DATASETS = Area("datasets", _FOLDERS, closed=_FINGERPRINT)
MODELS = Area("models", _FOLDERS, closed="intent-[0-9a-f]{12}", may_clean=True)
TRAININGS = Area("trainings", _FOLDERS, may_clean=True)
"""A manifest, and before it checkpoints that another machine continues from."""
EVALUATIONS = Area("evaluations", _FOLDERS, closed=_FINGERPRINT)
GOLDEN = Area("golden", _MANIFESTS)
RELEASES = Area("releases", _MANIFESTS)
"""By the model's name: models that a gate has accepted."""
LINEAGE = Area("lineage", "[^/]+/[^/]+/manifest\\.json")
OUTCOMES = Area("outcomes", _MANIFESTS)
"""By the flow run's id."""
LEDGER = Area("ledger", "[^/]+/(itag|seen|taken)/[^/]+\\.json")
SNAPSHOTS = Area("snapshots", "[^/]+/.+", may_clean=True)
"""Copies of exports, by their content."""
UNRECORDED = Area("unrecorded", "[^/]+\\.json")
"""Records that wait for MLflow."""
SERVING = Area("serving", "[^/]+/(manifest\\.json|replicas/[^/]+\\.json)")
"""By the fleet: what it serves, and what its replicas report."""
FORGOTTEN = Area("forgotten", "salt|rows/[^/]+\\.json")
EXPORTS = Area("exports", ".+", aborts_uploads=False)
"""Written by the users, and by `intent demo`."""

AREAS = (
    *(DATASETS, MODELS, TRAININGS, EVALUATIONS, GOLDEN, RELEASES, LINEAGE, OUTCOMES, LEDGER),
    *(SNAPSHOTS, UNRECORDED, SERVING, FORGOTTEN, EXPORTS),
)

FORGOTTEN_ROWS, FORGOTTEN_SALT = FORGOTTEN.key("rows", ""), FORGOTTEN.key("salt")
STAGING, REPLACED = ".restoring", ".replaced-"
"""Folders that a restore makes in a directory store: what is to be moved into place, and (with the
date) what was there before. They are not objects."""


def find_area(key: str) -> Area | None:
    """The area that a key of the pipeline belongs to; None for any other key."""
    name, _, rest = key.partition("/")
    matches = (area for area in AREAS if area.name == name and re.fullmatch(area.keys, rest))
    return next(matches, None)


def evaluation_prefix(
    artifact: ModelArtifact, dataset: DatasetManifest, config: EvaluateConfig, serve: ServeConfig
) -> str:
    """The folder of a report: by the model, the test, the intents and how it is asked."""
    intents = [schema.model_dump(mode="json") for schema in dataset.intents]
    parts = (artifact.digest, dataset.test_fingerprint, intents, config, serve, REPORT_VERSION)
    return EVALUATIONS.key(fingerprint(*parts))


def golden_prefix(artifact: ModelArtifact, serve: ServeConfig) -> str:
    return GOLDEN.key(f"{artifact.name}-{fingerprint(serve)}")


def release_prefix(model: str) -> str:
    return RELEASES.key(model)


def sighting_key(project: str, export: str) -> str:
    return LEDGER.key(project, "seen", f"{_hash(export)}.json")


def taking_key(project: str, sha256: str) -> str:
    return LEDGER.key(project, "taken", f"{sha256}.json")


def task_export_key(project: str, task: str) -> str:
    return LEDGER.key(project, "itag", f"{_hash(task)}.json")


def is_taking(key: str) -> bool:
    """Whether a key of the ledger is one that `taking_key` gives."""
    return key.split("/")[2] == "taken"


def snapshot_key(sha256: str, name: str) -> str:
    return SNAPSHOTS.key(sha256[:16], name)


def snapshot_digest(key: str) -> str:
    """The digits of its content's SHA-256 that a snapshot's key has; "" for another key."""
    return key.split("/")[1] if key.startswith(SNAPSHOTS.prefix) else ""


def report_prefix(fleet: str) -> str:
    """Of what the replicas of a fleet report, with a slash at its end."""
    return SERVING.key(fleet, "replicas", "")


def report_key(fleet: str, replica: str) -> str:
    return f"{report_prefix(fleet)}{replica}.json"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
