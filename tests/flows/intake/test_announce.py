"""The receiver with a real store: a notice of a key that no store accepts is ignored."""

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from flows.intake.announce import announce
from tasks.labeling.webhook import create_app
from tasks.settings import Settings, get_settings
from tests.support.servers.seaweedfs import REGION, Seaweed, running_seaweed

pytestmark = pytest.mark.service

STORE_TOKEN = "store-token-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[Seaweed]:
    with running_seaweed() as server:
        yield server


@pytest.fixture
def settings(server: Seaweed, tmp_path: Path) -> Settings:
    projects = tmp_path / "projects.yaml"
    marked = "{exports: exports/music/, recipe: embedded, marker: '{name}.done'}"
    plain = "{exports: exports/music/, recipe: embedded}"
    projects.write_text(f"marked: {marked}\nplain: {plain}\n", encoding="utf-8")
    os.environ.update(
        server.full.environment(),
        INTENT_STORE=f"s3://{server.bucket}/intake",
        INTENT_S3_ENDPOINT_URL=server.url,
        INTENT_S3_REGION=REGION,
        INTENT_S3_ADDRESSING_STYLE="path",
        INTENT_PROJECTS=str(projects),
        INTENT_HOME=str(tmp_path),
    )
    get_settings.cache_clear()
    return get_settings()


@pytest.mark.parametrize(
    "name",
    [
        *("music//x.manifest", "music/../x.manifest", "music/./x.manifest", "music/a\\x.manifest"),
        *("music/", "music//", "/music/x.manifest", "music/.0123.partial"),
        "music/" + "x" * 900 + ".manifest",
    ],
)
def test_a_notice_of_a_key_that_cannot_be_is_ignored(
    settings: Settings, server: Seaweed, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(
        partial(announce, settings),
        SecretStr("bearer-token-0123456789"),
        SecretStr("signing-secret-0123456789"),
        SecretStr(STORE_TOKEN),
    )
    place = {"bucket": {"name": server.bucket}, "object": {"key": quote(f"intake/exports/{name}")}}
    event = {"eventName": "ObjectCreated:Put", "s3": place}
    headers = {"authorization": f"Bearer {STORE_TOKEN}"}
    with TestClient(app) as client, caplog.at_level(logging.INFO):
        answer = client.post("/notifications", json={"Records": [event]}, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"notices": 1})
    assert any("ignored" in message for message in caplog.messages)
