"""The id of an answer contains the answering model, whatever a caller sends."""

import logging
from pathlib import Path

import pytest

from intent_core.serving.access.aliases import NamedModel, Trial
from intent_core.serving.protocol.response_ids import make_request_id, parse_response_id
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, OPERATOR_KEY, Serving

FORGED = f"{NEW}-v9-{'0' * 32}"
PREDICT = "/api/predict/intent"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    return serving


def sent_ids(serving: Serving) -> list[str]:
    """Return the request ids that vLLM received."""
    return serving.model.received[-1].values("x-request-id")


@pytest.mark.parametrize("version", ["", "7", "1.2-rc_3", f"v-{'a' * 32}"])
@pytest.mark.parametrize("prefix", ["", "chatcmpl-", "cmpl-"])
def test_what_was_named_is_read_back(version: str, prefix: str) -> None:
    request_id = make_request_id(NamedModel(model=OLD, version=version))
    assert parse_response_id(prefix + request_id) == (OLD, version)


@pytest.mark.parametrize(
    "text",
    ["", "chatcmpl-1", OLD, f"{OLD}-v7", f"x{FORGED}", f"{FORGED}\n", f"chatcmpl-{FORGED}-0"],
)
def test_other_ids_name_no_model(text: str) -> None:
    assert parse_response_id(text) is None


def test_every_answer_has_an_id_of_its_own_that_names_the_model(serving: Serving) -> None:
    told = []
    for path, prefix in ((CHAT, "chatcmpl-"), ("/v1/completions", "cmpl-"), (PREDICT, "chatcmpl-")):
        body = {"messages": []} if path == CHAT else {"prompt": "x"}
        answer = serving.ask("POST", path, {"model": "intent", **body})
        [sent] = sent_ids(serving)
        assert answer.headers["x-intent-id"] == prefix + sent
        assert parse_response_id(answer.headers["x-intent-id"]) == (OLD, "7")
        told.append(sent)
    assert len(set(told)) == 3
    tokens = {"model": "intent", "prompt": "x"}
    assert "x-intent-id" not in serving.ask("POST", "/tokenize", tokens, key=OPERATOR_KEY).headers


def test_a_stream_names_the_model_before_it_begins(serving: Serving) -> None:
    serving.model.stream = [b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"]
    answer = serving.ask("POST", CHAT, {"model": "intent", "messages": [], "stream": True})
    assert parse_response_id(answer.headers["x-intent-id"]) == (OLD, "7")


def test_a_callers_id_comes_back_and_forges_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "intent", "messages": [], "request_id": FORGED}
    with caplog.at_level(logging.INFO, "intent.access"):
        answer = serving.ask("POST", CHAT, body, headers=[(b"X-Request-Id", FORGED.encode())])
    [sent] = sent_ids(serving)
    assert parse_response_id(sent) == (OLD, "7")
    assert answer.headers["x-request-id"] == FORGED
    assert answer.headers["x-intent-id"] == f"chatcmpl-{sent}"
    assert caplog.messages[-1].endswith(f" id=chatcmpl-{sent} request={FORGED}")


@pytest.mark.parametrize("values", [[b""], [b"a b"], [b"a\x1b[0m"], [b"x" * 129], [b"a", b"b"]])
def test_an_unusable_id_of_a_caller_is_left_out(serving: Serving, values: list[bytes]) -> None:
    answer = serving.chat(headers=[(b"x-request-id", value) for value in values])
    [sent] = sent_ids(serving)
    assert parse_response_id(sent) == (OLD, "7")
    assert answer.headers["x-request-id"] == "1", "the server's own header is kept"


def test_in_a_trial_the_id_names_who_really_answered(serving: Serving) -> None:
    canary = Trial(model=NEW, version="8", mode="canary", share=1.0)
    serving.promote(OLD, trial=canary)
    assert parse_response_id(serving.chat().headers["x-intent-id"]) == (NEW, "8")
    assert sent_ids(serving)[0].startswith(f"{NEW}-v8-")
    # The operator's requests are not part of a trial.
    assert parse_response_id(serving.chat(key=OPERATOR_KEY).headers["x-intent-id"]) == (OLD, "7")


def test_in_a_shadow_the_id_names_the_champion(serving: Serving) -> None:
    serving.promote(OLD, trial=Trial(model=NEW, version="8", mode="shadow", share=1.0))
    answer = serving.chat()
    assert parse_response_id(answer.headers["x-intent-id"]) == (OLD, "7")
    assert serving.asked == [OLD, NEW]
    assert sent_ids(serving) == [], "the copy's answer is not sent to a caller"


def test_a_model_without_a_version_is_named_by_its_content(serving: Serving) -> None:
    serving.promote(OLD, version="")
    assert parse_response_id(serving.chat().headers["x-intent-id"]) == (OLD, "")
