"""Which models are downloaded to a serving machine's disk, removed from it, and always kept."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact, content_name, digest_folder
from intent_core.serving.access.aliases import Target, Trial, write_aliases
from tasks.models.local_cache import fetch_model, forget_models
from tasks.settings import Settings
from tasks.storage.objects import upload_folder
from tasks.storage.step_results import get_store
from tasks.system.processes import in_use, start_process, stop_process
from tests.support.faults.kill_points import die_before

NAMES = [f"intent-{number:012x}" for number in range(8)]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Eight models, from least to most recently used; the odd ones are adapters, too."""
    settings = Settings(home=tmp_path, keep_models=2)
    for number, name in enumerate(NAMES):
        for folder in (settings.layout.models, settings.layout.adapters)[: 1 + number % 2]:
            (folder / name).mkdir(parents=True)
            (folder / name / "weights").write_text("x", encoding="utf-8")
        os.utime(settings.layout.models / name, (number, number))
    return settings


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_used_and_the_needed_stay(home: Settings) -> None:
    assert sorted(forget_models(home, NAMES[:2])) == NAMES[2:6]
    assert names_in(home.layout.models) == [*NAMES[:2], *NAMES[6:]]
    assert names_in(home.layout.adapters) == [NAMES[1], NAMES[7]]
    assert forget_models(home, NAMES[:2]) == []


def test_what_is_evaluated_served_or_tried_stays(home: Settings) -> None:
    server = "vllm-base-0123456789ab-abcdef"
    trial = Trial(model=NAMES[3], version="2", system_prompt="", mode="shadow", share=0.5)
    target = Target(model=NAMES[2], version="1", system_prompt="", trial=trial)
    write_aliases(home.home / "aliases" / f"{server}.json", {"intent": target})
    # Aliases of a server that no longer runs.
    old = Target(model=NAMES[1], version="1", system_prompt="")
    write_aliases(home.home / "aliases" / "vllm-base-ba9876543210-abcdef.json", {"intent": old})
    record = start_process(home.layout.processes, server, ["sleep", "60"], 1)
    try:
        with in_use(home.layout.processes, f"vllm-{NAMES[0]}-abcdef"):
            forget_models(home, [])
    finally:
        stop_process(home.layout.processes, record)
    assert names_in(home.layout.models) == [NAMES[0], *NAMES[2:4], *NAMES[6:]]


def fetch_and_die(settings: Settings, artifact: ModelArtifact, point: tuple[str, str]) -> None:
    die_before(*point, 1)
    fetch_model(settings, artifact)


@pytest.mark.parametrize(
    "point",
    [
        ("os.rename", "/home/*/manifest.json"),
        ("open", "/home/*/weights"),  # the comparison reads it
        ("os.rename", "/models/intent-????????????"),
    ],
)
@pytest.mark.parametrize("content", [b"good", b"changed in the store"])
def test_a_download_that_was_killed_is_compared_again(
    tmp_path: Path, point: tuple[str, str], content: bytes
) -> None:
    settings = Settings(home=tmp_path / "home", store=str(tmp_path / "store"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights").write_bytes(b"good")
    digest = digest_folder(source)
    artifact = make_artifact(digest)
    (source / "weights").write_bytes(content)
    (source / "manifest.json").write_text(artifact.model_dump_json())
    upload_folder(get_store(settings), source, artifact.uri)

    process = multiprocessing.get_context("fork").Process(
        target=fetch_and_die, args=(settings, artifact, point)
    )
    process.start()
    process.join(60)
    # Content that was changed is refused before the last point.
    assert process.exitcode == (1 if content != b"good" and "????" in point[1] else -signal.SIGKILL)
    assert not (settings.layout.models / artifact.name).exists()
    if content == b"good":
        assert (fetch_model(settings, artifact) / "weights").read_bytes() == content
    else:
        with pytest.raises(ServingError, match="digest mismatch"):
            fetch_model(settings, artifact)
        assert not (settings.layout.models / artifact.name).exists()


def test_a_folder_that_was_left_half_is_replaced(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", store=str(tmp_path / "store"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights").write_bytes(b"good")
    artifact = make_artifact(digest_folder(source))
    (source / "manifest.json").write_text(artifact.model_dump_json())
    upload_folder(get_store(settings), source, artifact.uri)
    half = settings.layout.models / artifact.name
    half.mkdir(parents=True)
    (half / "stray").write_bytes(b"of another attempt")
    assert names_in(fetch_model(settings, artifact)) == ["manifest.json", "weights"]
    assert names_in(settings.layout.models) == [artifact.name]


def make_artifact(digest: str) -> ModelArtifact:
    name = content_name(digest)
    return ModelArtifact(
        name=name,
        digest=digest,
        uri=f"models/{name}",
        method="full",
        base_model="tiny",
        base_model_digest="none",
        dataset_fingerprint="none",
        train_fingerprint="none",
        system_prompt="",
    )
