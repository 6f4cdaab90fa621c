"""Run the command line like a user, with a recipe for a tiny model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from typer.testing import CliRunner

from flows.cli.main import app
from intent_core.datasets.splits import place_utterances
from intent_core.language.utterances import normalise_utterance
from intent_core.recipe.config import DataConfig
from tests.support.builders.labeled_export import to_itag, write_export


def recipe_for(model: Path) -> dict[str, Any]:
    """Return a recipe with enough epochs for a tiny model to memorize a few hundred rows."""
    return {
        "project": "walk",
        # The export is generated from a few templates, so most utterances are near-duplicates.
        "data": {
            "test_fraction": 0.15,
            "validation_fraction": 0.05,
            "near_duplicate_similarity": 1.0,
        },
        "train": {
            "base_model": str(model),
            "method": "full",
            "lora_dim": 0,
            "learning_rate": 3e-3,
            "num_train_epochs": 14,
            "global_batch_size": 8,
            "per_device_train_batch_size": 8,
            "save_dtype": "float32",
            "system_prompt": "Recognize the intent.",
        },
        "gate": {
            "min_intent_accuracy": 0.8,
            "min_parameter_accuracy": 0.5,
            "min_test_examples": 20,
            "max_regression": 0.3,
        },
        "serve": {"max_model_len": 256, "alias": "walk", "dtype": "float32"},
    }


def prepare_walk(folder: Path, model: Path) -> Path:
    """Write the export and the recipe of a pipeline run into the folder."""
    write_export(folder / "export.manifest")
    recipe = yaml.safe_dump(recipe_for(model), allow_unicode=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder


def add_long_rows(walk: Path) -> None:
    """Add a row to the training split and one to the validation split that no server accepts."""
    recipe = yaml.safe_load((walk / "recipe.yaml").read_text(encoding="utf-8"))
    data = DataConfig(**recipe["data"])
    with (walk / "export.manifest").open("a", encoding="utf-8") as export:
        for split in ("train", "validation"):
            text = next(text for text in _say_long() if _place(text, data) == split)
            export.write(to_itag({"instruction": text, "output": "music_exit()"}) + "\n")


def _place(utterance: str, config: DataConfig) -> str:
    splits = place_utterances([normalise_utterance(utterance)], config).splits
    return next(name for name, some in splits.items() if some)


def _say_long() -> Iterator[str]:
    """Yield long utterances of different letters: near-duplicates would be left out."""
    return (" ".join([chr(ord("a") + n % 26) * 5 + str(n)] * 150) for n in count())


def intent(*arguments: str, code: int = 0) -> str:
    """Run a command in this process and return its standard output."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.stdout


def run_walk(
    walk: Path, *overrides: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `intent run` in a separate process, like a user."""
    options = [part for text in overrides for part in ("--set", text)]
    what = ["run", str(walk / "export.manifest"), "--recipe", str(walk / "recipe.yaml"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "flows", *what, *options],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def start_walk(walk: Path, *overrides: str) -> "subprocess.Popen[str]":
    """Start `intent run` in the background."""
    options = [part for text in overrides for part in ("--set", text)]
    what = ["run", str(walk / "export.manifest"), "--recipe", str(walk / "recipe.yaml"), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *what, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def outcome_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def reused_steps(outcome: dict[str, Any]) -> dict[str, bool]:
    return {step["name"]: step["reused"] for step in outcome["steps"]}


def read_artifact(key: str) -> str:
    """Return the content of the newest Prefect artifact with that key."""
    return str(find_artifact(key).data)


def find_artifact(key: str) -> Artifact:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        newest = ArtifactSort.CREATED_DESC
        return client.read_artifacts(artifact_filter=wanted, sort=newest)[0]


def list_artifacts(run_id: str) -> list[Artifact]:
    """Return the artifacts of a run, without results of tasks, as its page lists them."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run_id)]),
        type=ArtifactFilterType(not_any_=["result"]),
    )
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted)
