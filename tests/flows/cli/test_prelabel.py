"""`intent manifest --prelabel`: sends requests to a server with OpenAI's protocol."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from intent_client import AsyncIntentClient
from typer.testing import CliRunner

from flows.cli.data.prelabel import ask_each, make_prelabels, prelabel
from flows.cli.main import app
from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import ServeConfig, Template
from tasks.serving.state import ServingState, new_served_model, write_state
from tasks.settings import Settings

KEY, MODEL = "a-key-of-a-caller", "intent-0123456789ab"
ANSWERS = {"play jazz": "play(jazz)", "stop it": "stop()", "hm": "I do not know"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        utterance = body["messages"][-1]["content"]
        text = ANSWERS.get(utterance)
        status = 200 if text else 500 if utterance == "down" else 400
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        reply: dict[str, Any] = {"id": "1", "object": "chat.completion", "choices": [choice]}
        content = json.dumps(reply if text else {"error": {"message": "too long"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Intent-Model", MODEL)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def ask(url: str, *utterances: str) -> tuple[list[Any], int]:
    done: list[None] = []

    async def ask_now() -> list[Any]:
        async with AsyncIntentClient(url, KEY, max_retries=0) as client:
            return await ask_each(client, utterances, 2, lambda: done.append(None))

    return asyncio.run(ask_now()), len(done)


def test_each_utterance_has_its_answer(url: str) -> None:
    answers, num_done = ask(url, "play jazz", "hm", "x" * 99, "stop it")
    made = make_prelabels(answers, "served", None)
    assert num_done == 4
    assert [fields["prelabel"] for fields in made.fields] == ["play(jazz)", "", "", "stop()"]
    models = [fields["prelabel_model"] for fields in made.fields]
    assert models == [MODEL, MODEL, "served", MODEL]
    assert (made.num_unusable, made.num_unfit) == (2, 0)


def test_an_answer_that_does_not_fit_the_questions_is_counted(url: str) -> None:
    answers, _ = ask(url, "play jazz", "stop it", "hm")
    made = make_prelabels(answers, "served", Template(intent="intent"))
    assert [fields["prelabel_intent"] for fields in made.fields] == ["", "stop", ""]
    assert made.fields[0]["prelabel"] == "play(jazz)"
    assert (made.num_unusable, made.num_unfit) == (1, 1)


def test_a_server_that_fails_is_an_error(url: str) -> None:
    with pytest.raises(ServingError, match="request to 'intent' at"):
        ask(url, "play jazz", "down")


def test_nothing_served_says_what_to_do(tmp_path: Path) -> None:
    source, out = tmp_path / "u.txt", tmp_path / "o.manifest"
    source.write_text("play jazz\n")
    done = CliRunner().invoke(app, ["manifest", str(source), "--out", str(out), "--prelabel"])
    assert done.exit_code != 0
    assert "leave out --prelabel" in " ".join(done.stderr.split())
    assert not out.exists()


def test_the_served_model_is_asked(tmp_path: Path, url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    settings = Settings(home=tmp_path, gateway_port=port)
    artifact = ModelArtifact(
        name=MODEL,
        digest="d",
        uri="models/m",
        method="full",
        base_model="b",
        base_model_digest="d",
        dataset_fingerprint="f",
        train_fingerprint="t",
        system_prompt="",
    )
    served = new_served_model(
        settings, artifact, ServeConfig(), project="p", version="7", golden=()
    )
    write_state(settings, ServingState(current=served))
    made = prelabel(settings, ["play jazz", "hm"], None)
    assert made.fields == [
        {"prelabel": "play(jazz)", "prelabel_model": MODEL},
        {"prelabel": "", "prelabel_model": MODEL},
    ]
