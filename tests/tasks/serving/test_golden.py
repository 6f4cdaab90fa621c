"""Golden answers are taken from utterances that the server accepts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from intent_core.errors import ServingError
from intent_core.models.artifact import ModelArtifact
from tasks.serving.golden import (
    GoldenAnswer,
    RequestRefusedError,
    ask_golden,
    require_golden,
)
from tests.support.alibaba.pai_environment import describe_artifact

ARTIFACT: ModelArtifact = describe_artifact("intent-0123456789ab")
MOST_LETTERS = 40


class Replies(BaseHTTPRequestHandler):
    """Answers with the utterance; refuses a long one and fails for an empty one, as vLLM does."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        utterance = json.loads(self.rfile.read(length))["messages"][-1]["content"]
        status = 500 if not utterance else 400 if len(utterance) > MOST_LETTERS else 200
        text, logprobs = f"say({utterance})", None
        if utterance.startswith("hm"):
            # The answer of a server with a threshold, with its model's own log-probabilities.
            text, logprobs = "out_of_scope()", {"content": [{"logprob": -0.5}, {"logprob": -0.5}]}
        choice = {"message": {"content": text}, "logprobs": logprobs}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Replies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_an_utterance_that_the_server_refuses_is_skipped(url: str) -> None:
    long = ["la " * MOST_LETTERS] * 10
    golden = ask_golden(url, "key", ARTIFACT, [*long, "play", *long, "stop"])
    assert {answer.text for answer in golden.answers} == {"say(play)", "say(stop)"}


def test_no_more_utterances_are_sent_than_needed(url: str) -> None:
    golden = ask_golden(url, "key", ARTIFACT, [*(f"play {n}" for n in range(6)), ""])
    assert len(golden.answers) == 4


def test_a_server_that_refuses_everything_is_a_failure(url: str) -> None:
    with pytest.raises(RequestRefusedError, match="400"):
        ask_golden(url, "key", ARTIFACT, ["la " * MOST_LETTERS] * 3)


def test_a_failing_server_is_not_skipped(url: str) -> None:
    with pytest.raises(ServingError, match="500") as caught:
        ask_golden(url, "key", ARTIFACT, ["", "play"])
    assert not isinstance(caught.value, RequestRefusedError)


@pytest.mark.parametrize(("threshold", "is_right"), [(0.4, True), (0.3, False), (None, False)])
def test_an_answer_below_the_threshold_may_be_out_of_scope(
    url: str, threshold: float | None, is_right: bool
) -> None:
    """A caller's key, as at an address that accepts no other, gets what the server made of it."""
    golden = [GoldenAnswer(utterance="hm", text="say(hm)")]
    if is_right:
        require_golden(url, "key", "intent", ARTIFACT, golden, threshold)
        return
    with pytest.raises(ServingError, match="in its evaluation"):
        require_golden(url, "key", "intent", ARTIFACT, golden, threshold)
