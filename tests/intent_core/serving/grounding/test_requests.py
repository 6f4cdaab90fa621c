"""Requests to a grounded model: the grammar that vLLM gets, and requests whose grammar fails."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intent_core.language.calls import parse_calls
from intent_core.serving.access.aliases import Trial
from intent_core.serving.grounding.choice import explain_grounding, is_grounded
from intent_core.serving.grounding.grammar import MOST_CHARACTERS
from intent_core.serving.grounding.policy import (
    POLICY_FILE,
    GroundingPolicy,
    learn_policy,
    write_policy,
)
from intent_core.serving.protocol.asgi import Receive, Scope, Send
from tests.support.servers.fake_vllm import APP_KEY, CHAT, NEW, OLD, OPERATOR_KEY, Serving
from tests.support.servers.vllm_completions import write_completion

COPIED = (("weather in Hangzhou", "weather_search(Hangzhou)"), ("stop", "stop()"))
OTHER = (("播放红豆", "play_music(红豆)"),)
NOT_COPIED = tuple((f"row {n}", f"weather_search(city{n})") for n in range(5))
STREAMED_ERROR = b'data: {"error": {"message": "Failed to compile", "code": 400}}\n\n'


def learn(rows: tuple[tuple[str, str], ...]) -> GroundingPolicy:
    return learn_policy([(text, parse_calls(label)) for text, label in rows], None)


def make_serving(tmp_path: Path, mode: str = "auto", old: Any = COPIED) -> Serving:
    for model, rows in ((OLD, old), (NEW, OTHER)):
        folder = tmp_path / "models" / model
        folder.mkdir(parents=True)
        if rows:
            (folder / POLICY_FILE).write_bytes(write_policy(learn(rows)))
    serving = Serving(tmp_path, models_folder=tmp_path / "models", grounded=mode)
    serving.promote(OLD)
    return serving


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return make_serving(tmp_path)


class WithoutGrammars:
    """A vLLM that fails in one way on each request that has a grammar."""

    def __init__(self, serving: Serving, way: str) -> None:
        self._model, self._way = serving.model, way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        length = dict(scope["headers"])[b"content-length"]
        assert int(length) == len(body)
        is_bad = "structured_outputs" in json.loads(body)
        self._model.status = 500 if is_bad and self._way == "500" else 200
        self._model.status = 400 if is_bad and self._way == "400" else self._model.status
        self._model.fault = ValueError("boom") if is_bad and self._way == "raises" else None
        bad_stream = [STREAMED_ERROR, b"data: [DONE]\n\n"]
        self._model.stream = bad_stream if is_bad and self._way == "stream" else []
        parts: Iterator[Any] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Any:
            return next(parts)

        assert "path_params" not in scope, "the first attempt does not change the second"
        assert "seen" not in scope.setdefault("state", {})
        scope["path_params"] = scope["state"]["seen"] = True
        await self._model(scope, again, send)


def break_grammars(serving: Serving, way: str) -> None:
    app: Any = serving.app
    app._model_app._app = WithoutGrammars(serving, way)


def grammars(serving: Serving) -> list[str | None]:
    """Return the grammar of each request that vLLM received."""
    sent = [received.fields.get("structured_outputs") for received in serving.model.received]
    return [outputs["grammar"] if outputs else None for outputs in sent]


def dropped(serving: Serving, reason: str) -> float:
    return serving.number("intent_dropped_grammars_total", reason=reason)


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 3, "temperature": 0.7}])
@pytest.mark.parametrize("key", [APP_KEY, OPERATOR_KEY])
def test_a_chat_has_the_grammar_of_its_user_messages(
    serving: Serving, key: str, fields: dict[str, Any]
) -> None:
    messages = [
        {"role": "system", "content": "Systematically"},
        {"role": "user", "content": "weather in Hangzhou"},
        {"role": "assistant", "content": "Assistantly"},
        {"role": "user", "content": [{"type": "text", "text": "and in 北京"}]},
    ]
    body = {"model": "intent", "messages": messages, **fields}
    assert serving.ask("POST", CHAT, body, key=key).status == 200
    [grammar] = grammars(serving)
    assert grammar is not None
    comment, root = grammar.splitlines()[:2]
    salt = serving.model.received[0].cache_salt
    assert (comment, root.partition(" ::=")[0]) == (f"# {salt}", "root"), "a cache for each key"
    for text in ("Hangzhou", "北", "weather_search", "stop"):
        assert text in grammar
    assert "ystematically" not in grammar and "ssistantly" not in grammar
    sent = serving.model.received[0].fields
    assert {name: sent[name] for name in fields} == fields


def test_the_operator_s_candidate_and_the_legacy_route_have_one_too(serving: Serving) -> None:
    serving.chat(NEW, key=OPERATOR_KEY)
    legacy = {"prompt": "stop", "history": [["weather in Ulm", "weather_search(Ulm)"]]}
    serving.ask("POST", "/api/predict/intent", legacy)
    candidate, older = grammars(serving)
    assert candidate is not None and "play_music" in candidate
    assert older is not None and "stop" in older and "Ulm" in older


@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize"])
def test_no_other_path_has_one(serving: Serving, path: str) -> None:
    serving.ask("POST", path, {"model": "intent", "prompt": "weather"}, key=OPERATOR_KEY)
    assert grammars(serving) == [None]


@pytest.mark.parametrize(
    ("mode", "rows", "expected"),
    [
        ("auto", COPIED, True),
        ("auto", NOT_COPIED, False),
        ("auto", None, False),
        ("always", NOT_COPIED, True),
        ("always", None, False),
        ("never", COPIED, False),
    ],
)
def test_the_setting_and_the_labels_decide(
    tmp_path: Path, mode: str, rows: Any, expected: bool
) -> None:
    serving = make_serving(tmp_path, mode, rows)
    assert serving.chat().status == 200
    assert [grammar is not None for grammar in grammars(serving)] == [expected]
    assert dropped(serving, "not_written") == 0
    policy = learn(rows) if rows else None
    assert is_grounded(mode, policy) is expected
    assert explain_grounding(mode, policy).startswith(f"Answers are{'' if expected else ' not'} ")


def test_in_a_trial_each_model_has_its_own(serving: Serving) -> None:
    serving.promote(OLD, trial=Trial(model=NEW, mode="shadow", share=1.0))
    serving.chat()
    old, new = grammars(serving)
    assert old is not None and "weather_search" in old and "play_music" not in old
    assert new is not None and "play_music" in new and "weather_search" not in new
    trial = serving.trial()
    assert (trial["requests"], trial["skipped"]) == (1, 0)


@pytest.mark.parametrize("way", ["400", "500", "raises", "stream"])
@pytest.mark.parametrize("path", [CHAT, "/api/predict/intent"])
def test_a_grammar_that_vllm_cannot_use_is_dropped_and_counted(
    serving: Serving, path: str, way: str
) -> None:
    break_grammars(serving, way)
    body = {"model": "intent", "messages": [{"role": "user", "content": "stop"}], "prompt": "stop"}
    if path == CHAT:
        del body["prompt"]
    answer = serving.ask("POST", path, body)
    assert answer.status == 200
    assert b"weather_search(Hangzhou)" in answer.body
    assert b"error" not in answer.body
    with_grammar, without = grammars(serving)
    assert (with_grammar is None, without) == (False, None)
    assert dropped(serving, "not_usable") == 1


def test_a_copy_in_a_trial_is_repeated_too(serving: Serving) -> None:
    serving.promote(OLD, trial=Trial(model=NEW, mode="shadow", share=1.0))
    break_grammars(serving, "500")
    serving.chat()
    assert [grammar is None for grammar in grammars(serving)] == [False, True, False, True]
    assert serving.trial()["parse_failure_rate"] == 0
    assert dropped(serving, "not_usable") == 2


def test_an_error_without_the_grammar_is_the_caller_s(serving: Serving) -> None:
    serving.model.status, serving.model.raw = 400, b'{"error": {"code": 400}}'
    answer = serving.chat()
    assert (answer.status, answer.body) == (400, b'{"error": {"code": 400}}')
    assert len(serving.model.received) == 2
    assert dropped(serving, "not_usable") == 0


def test_a_stream_is_passed_on_as_it_comes(serving: Serving) -> None:
    serving.model.stream = [b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"]
    answer = serving.chat()
    assert answer.chunks[:2] == serving.model.stream
    assert len(serving.model.received) == 1


def test_a_grammar_that_cannot_be_written_is_dropped_and_counted(
    serving: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [{"role": "user", "content": "secret " * MOST_CHARACTERS}]
    assert serving.ask("POST", CHAT, {"model": "intent", "messages": messages}).status == 200
    (tmp_path / "models" / NEW / POLICY_FILE).write_text("{")
    with caplog.at_level(logging.ERROR):
        assert serving.chat(NEW, key=OPERATOR_KEY).status == 200
    assert grammars(serving) == [None, None]
    assert dropped(serving, "not_written") == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert NEW in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
    "messages", ["x", [], [7], [{"role": "user"}], [{"role": "user", "content": 7}]]
)
def test_invalid_messages_are_vllm_s_to_refuse(serving: Serving, messages: object) -> None:
    assert serving.ask("POST", CHAT, {"model": "intent", "messages": messages}).status == 200
    assert len(serving.model.received) == 1


def test_the_tools_of_a_caller_narrow_the_grammar(tmp_path: Path) -> None:
    serving = make_serving(tmp_path, old=(*COPIED, ("what is love", "out_of_scope()")))
    stop = {"type": "function", "function": {"name": "stop"}}

    def read_grammar(**fields: Any) -> str:
        serving.model.raw = write_completion("stop()")
        body = {"model": "intent", "messages": [{"role": "user", "content": "stop"}], **fields}
        assert serving.ask("POST", CHAT, body).status == 200
        return str(serving.model.received[-1].fields["structured_outputs"]["grammar"])

    assert all(name in read_grammar() for name in ("stop", "weather_search", "out_of_scope"))
    narrow = read_grammar(tools=[stop])
    assert ("weather_search" in narrow, "out_of_scope" in narrow) == (False, True)
    required = read_grammar(tools=[stop], tool_choice="required")
    assert ("stop" in required, "out_of_scope" in required) == (True, False)
    assert read_grammar(response_format={"type": "json_object"}) == read_grammar()


def test_an_answer_that_is_held_is_repeated_without_its_grammar(serving: Serving) -> None:
    serving.promote(OLD, abstain_below=0.6)
    serving.app._model_app._app = WithoutGrammars(serving, "500")  # type: ignore[attr-defined]
    serving.model.raw = write_completion("stop()", logprobs=[-0.1])
    answer = serving.chat()
    assert (answer.status, len(serving.model.received)) == (200, 2)
    assert "x-intent-confidence" in answer.headers
