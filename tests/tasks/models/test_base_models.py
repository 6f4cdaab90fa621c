"""Base models in an object store and on a hub are found, identified, and downloaded once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, ServiceError
from intent_core.models.base_model import locate_base_model
from tasks.models.base_models import fetch_base_model, identify_base_model, require_base_model
from tasks.settings import get_settings
from tests.support.servers.model_hub import COMMIT, REPOSITORY, Hub, running_hub
from tests.support.servers.seaweedfs import REGION, Seaweed

pytestmark = pytest.mark.service

NAME = f"{REPOSITORY}@{COMMIT}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    os.environ["INTENT_HOME"] = str(tmp_path / "home")
    get_settings.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def stored(server: Seaweed, tiny_model: Path, home: Path) -> str:
    """The tiny model below a prefix of the bucket, with files that must not be downloaded."""
    os.environ.update(
        server.full.environment(),
        INTENT_S3_ENDPOINT_URL=server.url,
        INTENT_S3_REGION=REGION,
        INTENT_S3_ADDRESSING_STYLE="path",
    )
    get_settings.cache_clear()
    client = server.client()
    for path in tiny_model.iterdir():
        client.upload_file(str(path), server.bucket, f"bases/tiny/{path.name}")
    client.put_object(Bucket=server.bucket, Key="bases/tiny/pytorch_model.bin", Body=b"pickle")
    client.put_object(Bucket=server.bucket, Key="bases/other/config.json", Body=b"{}")
    return f"s3://{server.bucket}/bases/tiny"


@pytest.fixture
def hub(tiny_model: Path, home: Path) -> Iterator[Hub]:
    with running_hub(tiny_model) as hub:
        os.environ["INTENT_HUB_ENDPOINT"] = hub.endpoint
        get_settings.cache_clear()
        yield hub


def test_a_stored_model_is_fetched_once(stored: str, tiny_model: Path, server: Seaweed) -> None:
    require_base_model(stored)
    source = fetch_base_model(get_settings(), f"{stored}/")
    names = {path.name for path in source.path.iterdir()}
    assert names == {path.name for path in tiny_model.iterdir()}
    assert source.digest == identify_base_model(stored)
    weights = source.path / "model.safetensors"
    assert weights.read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    before = weights.stat().st_mtime_ns
    assert fetch_base_model(get_settings(), f"{stored}/").path == source.path
    assert weights.stat().st_mtime_ns == before
    # A changed file changes the identity of the base model.
    key = "bases/tiny/generation_config.json"
    server.client().put_object(Bucket=server.bucket, Key=key, Body=b"{}")
    assert identify_base_model(stored) != source.digest


def test_a_folder_without_a_model_is_refused(stored: str) -> None:
    with pytest.raises(ConfigError, match=r"does not contain config\.json"):
        require_base_model(f"{stored}-nowhere")


def test_a_hub_s_model_is_fetched_at_its_commit(hub: Hub, home: Path, tiny_model: Path) -> None:
    require_base_model(NAME)
    assert identify_base_model(NAME) == COMMIT[:16]
    assert hub.asked == [], "no request is sent before the model is needed"
    source = fetch_base_model(get_settings(), NAME)
    files = {path.name for path in source.path.iterdir() if path.is_file()}
    assert files == {path.name for path in tiny_model.iterdir()}
    assert not any("pytorch_model" in path for path in hub.asked)
    assert all(COMMIT in path for path in hub.asked)
    count = len(hub.asked)
    assert fetch_base_model(get_settings(), NAME) == source
    assert len(hub.asked) == count


@pytest.mark.parametrize("name", ["owner/tiny-chat", "owner/tiny-chat@main"])
def test_a_hub_s_model_without_its_commit_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="owner/tiny-chat@<40 hex digits>"):
        require_base_model(name)


def test_what_a_hub_has_not_names_the_remedy(hub: Hub, home: Path) -> None:
    with pytest.raises(ServiceError, match=r"INTENT_HUB_ENDPOINT.*s3:// or oss://"):
        fetch_base_model(get_settings(), f"owner/another@{COMMIT}")
    assert not list((home / "cache" / "base-models").iterdir()), "no partial download is left"


def test_a_local_directory_stays_where_it_is(tiny_model: Path, home: Path) -> None:
    source = fetch_base_model(get_settings(), str(tiny_model))
    assert source == locate_base_model(str(tiny_model))
