"""The layout of the store: its areas, their keys, and the permitted operations on them.

No other module spells out a prefix of the store. Other objects in the bucket are not ours.
"""

import hashlib
import re
from typing import NamedTuple

from intent_core.datasets.manifest import DatasetManifest
from intent_core.evaluation.report import REPORT_VERSION
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig, ServeConfig, fingerprint


class Area(NamedTuple):
    """The objects of one kind: their keys start with the area's name and a slash."""

    name: str
    keys: str
    """Pattern of the rest of a key, after the name and its slash."""
    closed: str = ""
    """Pattern of the folders that a manifest completes: a folder without its manifest is ignored,
    and the next step that needs it uploads it again. Other folders belong to the user, e.g. base
    models."""
    aborts_uploads: bool = True
    """Whether old unfinished uploads are deleted."""
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
"""A manifest; until it exists, checkpoints from which another machine can resume."""
EVALUATIONS = Area("evaluations", _FOLDERS, closed=_FINGERPRINT)
GOLDEN = Area("golden", _MANIFESTS)
RELEASES = Area("releases", _MANIFESTS)
"""By model name: the models that passed a quality gate."""
LINEAGE = Area("lineage", "[^/]+/[^/]+/manifest\\.json")
OUTCOMES = Area("outcomes", _MANIFESTS)
"""By flow run id."""
LEDGER = Area("ledger", "[^/]+/(itag|seen|taken)/[^/]+\\.json")
SNAPSHOTS = Area("snapshots", "[^/]+/.+", may_clean=True)
"""Copies of exports, by content digest."""
UNRECORDED = Area("unrecorded", "[^/]+\\.json")
"""Run records that failed to reach MLflow and are retried."""
SERVING = Area("serving", "[^/]+/(manifest\\.json|wish/[0-9]+\\.json|replicas/[^/]+\\.json)")
"""By fleet: its desired states, and the reports of the replicas."""
FORGOTTEN = Area("forgotten", "salt|rows/[^/]+\\.json")
EXPORTS = Area("exports", ".+", aborts_uploads=False)
"""Written by users and by `intent demo`."""

AREAS = (
    *(DATASETS, MODELS, TRAININGS, EVALUATIONS, GOLDEN, RELEASES, LINEAGE, OUTCOMES, LEDGER),
    *(SNAPSHOTS, UNRECORDED, SERVING, FORGOTTEN, EXPORTS),
)

FORGOTTEN_ROWS, FORGOTTEN_SALT = FORGOTTEN.key("rows", ""), FORGOTTEN.key("salt")
STAGING, REPLACED = ".restoring", ".replaced-"
"""Folders that a restore makes in a directory store: the files to move into place, and (with the
date) the previous files. They are not objects."""


def find_area(key: str) -> Area | None:
    """Return the area of a key; None if the key does not belong to the pipeline."""
    name, _, rest = key.partition("/")
    matches = (area for area in AREAS if area.name == name and re.fullmatch(area.keys, rest))
    return next(matches, None)


def evaluation_prefix(
    artifact: ModelArtifact, dataset: DatasetManifest, config: EvaluateConfig, serve: ServeConfig
) -> str:
    """Return the folder of a report, by model, test split, intent schema and configuration."""
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
    """Return whether a key of the ledger was made by `taking_key`."""
    return key.split("/")[2] == "taken"


def snapshot_key(sha256: str, name: str) -> str:
    return SNAPSHOTS.key(sha256[:16], name)


def snapshot_digest(key: str) -> str:
    """Return the SHA-256 digits in the key of a snapshot; "" for any other key."""
    return key.split("/")[1] if key.startswith(SNAPSHOTS.prefix) else ""


def desired_state_prefix(fleet: str) -> str:
    """Return the prefix of a fleet's desired states, with a trailing slash."""
    return SERVING.key(fleet, "wish", "")


def desired_state_key(fleet: str, number: int) -> str:
    return f"{desired_state_prefix(fleet)}{number}.json"


def read_number(key: str) -> int:
    """Return the number in the key of a desired state; 0 for any other key."""
    match = re.fullmatch(r"[^/]+/[^/]+/wish/([0-9]{1,18})\.json", key)
    return int(match[1]) if match else 0


def report_prefix(fleet: str) -> str:
    """Return the prefix of the replicas' reports, with a trailing slash."""
    return SERVING.key(fleet, "replicas", "")


def report_key(fleet: str, replica: str) -> str:
    return f"{report_prefix(fleet)}{replica}.json"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
