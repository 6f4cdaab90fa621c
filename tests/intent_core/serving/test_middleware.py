"""The class as constructed by vLLM, and the imports available in its environment."""

import ast
import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import intent_core.serving
from intent_core.errors import ConfigError
from intent_core.serving.middleware import ServingMiddleware
from tests.support.servers.fake_vllm import CHAT, OLD, OPERATOR_KEY, Serving


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    return serving


def test_other_protocols(serving: Serving) -> None:
    sent: list[Any] = []
    seen: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def server(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    serving.app._app = server  # type: ignore[attr-defined]
    for kind in ("websocket", "lifespan", "something new"):
        asyncio.run(serving.app({"type": kind, "path": CHAT, "headers": []}, receive, send))
    assert seen == ["lifespan"]
    assert [m["type"] for m in sent] == ["websocket.close"]


def test_the_class_that_is_named_to_vllm(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="INTENT_ALIASES_FILE"):
        ServingMiddleware(serving.model)
    monkeypatch.setenv("INTENT_ALIASES_FILE", str(serving.aliases_file))
    monkeypatch.setenv("INTENT_KEYS_FILE", str(serving.keys_file))
    monkeypatch.setenv("VLLM_API_KEY", OPERATOR_KEY)
    for _ in range(2):
        serving.app = ServingMiddleware(serving.model)
        assert serving.chat().status == 200


def test_access_is_logged_where_nobody_set_up_logging(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("intent.access")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    for name in ("INTENT_ALIASES_FILE", "INTENT_KEYS_FILE"):
        monkeypatch.setenv(name, str(serving.aliases_file))
    monkeypatch.setenv("VLLM_API_KEY", OPERATOR_KEY)
    try:
        for _ in range(2):
            serving.app = ServingMiddleware(serving.model)
        assert len(logger.handlers) == 1
        serving.chat(OLD, key=OPERATOR_KEY)
    finally:
        logger.setLevel(logging.NOTSET)
    assert f"intent.access caller=operator alias=- model={OLD}" in capsys.readouterr().err


def test_it_imports_what_vllms_environment_has() -> None:
    allowed = {*sys.stdlib_module_names, "pydantic", "prometheus_client", "tokenizers"}
    language = ("calls", "invisible", "slot_names", "vocabulary", "vocabulary_copy")
    ours = tuple(
        f"intent_core.{name}"
        for name in ("serving.", "files", "errors", *(f"language.{name}" for name in language))
    )
    folder = Path(intent_core.serving.__path__[0])
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in allowed or name.startswith(ours), file
