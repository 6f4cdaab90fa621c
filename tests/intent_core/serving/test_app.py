import asyncio
import json
import logging
from pathlib import Path

import httpx
import pytest

from tests.support.servers.fake_vllm import (
    APP_KEY,
    CHAT,
    NEW,
    OLD,
    OPERATOR_KEY,
    OTHER_KEY,
    Answer,
    Serving,
)

SYSTEM = {"role": "system", "content": "Say calls."}
USER = {"role": "user", "content": "weather in Hangzhou"}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    return serving


def test_an_alias_becomes_the_model_it_means(serving: Serving) -> None:
    answer = serving.chat()
    assert (answer.status, answer.headers["x-intent-model"]) == (200, OLD)
    assert answer.headers["x-intent-version"] == "7"
    assert answer.headers["x-request-id"] == "1"
    [sent] = serving.model.received
    assert sent.fields == {"model": OLD, "messages": [SYSTEM, USER]}
    assert sent.values("authorization") == [f"Bearer {OPERATOR_KEY}"]
    assert sent.values("content-length") == [str(len(sent.body))]


def test_headers_of_the_old_body_do_not_describe_the_new_one(serving: Serving) -> None:
    body = {"model": "intent", "messages": [USER]}
    headers = [(b"transfer-encoding", b"chunked"), (b"x-trace", b"1")]
    serving.ask("POST", CHAT, body, headers=headers)
    [sent] = serving.model.received
    assert sent.values("transfer-encoding") == []
    assert sent.values("x-trace") == ["1"]


def test_the_alias_turns_between_two_requests(serving: Serving) -> None:
    models = [serving.chat().headers["x-intent-model"]]
    serving.promote(NEW, version="8")
    answer = serving.chat()
    models.append(answer.headers["x-intent-model"])
    serving.aliases_file.write_text("{ broken")
    models.append(serving.chat().headers["x-intent-model"])
    serving.aliases_file.unlink()
    models.append(serving.chat().headers["x-intent-model"])
    serving.promote(OLD)
    models.append(serving.chat().headers["x-intent-model"])
    assert models == [OLD, NEW, NEW, NEW, OLD]
    assert [r.fields["model"] for r in serving.model.received] == models
    assert answer.headers["x-intent-version"] == "8"


def test_before_the_first_promotion_callers_are_told_so(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    answer = serving.chat()
    assert (answer.status, answer.code) == (503, "no_model_promoted")
    assert answer.fields["error"]["message"] == "no model has been promoted yet"
    assert serving.ask("GET", "/v1/models").fields["data"] == []
    assert serving.chat(OLD, key=OPERATOR_KEY).status == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize(
    ("model", "status"),
    [
        *[(OLD, 404), (NEW, 404), ("../../etc", 404), ("/etc/passwd", 404), ("%2e%2e%2fetc", 404)],
        *[("", 404), ("ïntent", 404), ("intent\n", 404), ("Intent", 404), ("intent/../x", 404)],
        *[("x" * 100_000, 404), (None, 400), (["intent"], 400), (7, 400), ({"intent": 1}, 400)],
    ],
)
def test_only_aliases_reach_the_server(
    serving: Serving, path: str, model: object, status: int
) -> None:
    answer = serving.ask("POST", path, {"model": model, "prompt": "x"})
    assert answer.status == status
    assert answer.code == ("model_not_found" if status == 404 else "invalid_request")
    assert len(answer.body) < 1000
    assert serving.model.received == []
    assert serving.ask("POST", path, {"prompt": "x"}).status == 400


@pytest.mark.parametrize("model", ["../../etc", OLD + "/..", OLD.upper(), "intent-0", "", "x"])
def test_the_operator_asks_for_aliases_and_content_names_only(serving: Serving, model: str) -> None:
    assert serving.chat(model, key=OPERATOR_KEY).status == 404
    assert serving.model.received == []


def test_the_operator_asks_for_a_model_by_its_content(serving: Serving) -> None:
    answer = serving.chat(NEW, key=OPERATOR_KEY)
    assert answer.headers["x-intent-model"] == NEW
    assert "x-intent-version" not in answer.headers
    # The evaluation sends its own system prompt.
    assert serving.model.received[0].fields == {"model": NEW, "messages": [USER]}
    assert serving.chat(key=OPERATOR_KEY).headers["x-intent-version"] == "7"
    serving.ask("POST", "/tokenize", {"model": NEW, "prompt": "x"}, key=OPERATOR_KEY)
    assert serving.model.received[-1].fields == {"model": NEW, "prompt": "x"}


def test_completions_get_no_system_prompt(serving: Serving) -> None:
    serving.ask("POST", "/v1/completions", {"model": "intent", "prompt": "x"})
    assert serving.model.received[0].fields == {"model": OLD, "prompt": "x"}


def test_the_system_prompt_can_be_left_to_callers(tmp_path: Path) -> None:
    serving = Serving(tmp_path, add_system_prompt=False)
    serving.promote(OLD)
    serving.chat()
    assert serving.model.received[0].fields["messages"] == [USER]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([(b"authorization", b"")], 401),
        ([(b"authorization", b"Bearer")], 401),
        ([(b"authorization", b"Bearer ")], 401),
        ([(b"authorization", b"Basic " + APP_KEY.encode())], 401),
        ([(b"authorization", APP_KEY.encode())], 401),
        ([(b"authorization", b"Bearer \xff\x00")], 401),
        ([(b"authorization", b"Bearer " + APP_KEY.encode() + b" x")], 401),
        ([(b"x-api-key", APP_KEY.encode())], 401),
        ([(b"authorization", b"Bearer " + APP_KEY.encode())] * 2, 400),
        ([(b"authorization", b"Bearer " + APP_KEY.encode()), (b"Authorization", b"")], 400),
        ([(b"authorization", b"bEARER   " + APP_KEY.encode() + b" ")], 200),
    ],
)
def test_the_authorization_header(
    serving: Serving, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    answer = serving.chat(key=None, headers=headers)
    assert answer.status == status
    assert len(serving.model.received) == (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_keys_are_taken_and_withdrawn_while_serving(serving: Serving) -> None:
    later = "key-of-a-later-day-0123"
    assert serving.chat(key=later).status == 401
    serving.keys_file.write_text(f"app {APP_KEY}\nlater {later}\n")
    assert [serving.chat(key=k).status for k in (APP_KEY, later, OTHER_KEY)] == [200, 200, 401]
    serving.keys_file.write_text(f"broken\nlater {later}\n")
    assert [serving.chat(key=k).status for k in (APP_KEY, later)] == [401, 200]
    serving.keys_file.write_text(f"later {later}\n")
    assert [serving.chat(key=k).status for k in (APP_KEY, later)] == [401, 200]


def test_models_are_listed_by_public_name(serving: Serving) -> None:
    answer = serving.ask("GET", "/v1/models")
    [model] = answer.fields["data"]
    assert (answer.fields["object"], model["object"], model["id"]) == ("list", "model", "intent")
    assert isinstance(model["created"], int)
    assert OLD not in answer.body.decode()
    assert serving.model.received == []
    serving.ask("GET", "/v1/models", key=OPERATOR_KEY)
    assert [r.path for r in serving.model.received] == ["/v1/models"]


def test_the_status_tells_what_is_served_without_prompts(serving: Serving) -> None:
    answer = serving.ask("GET", "/intent/status", key=OPERATOR_KEY)
    expected = {"aliases": {"intent": {"model": OLD, "version": "7"}}, "in_flight": {}}
    assert answer.fields == expected


def test_requests_beyond_the_rate_wait(tmp_path: Path) -> None:
    serving = Serving(tmp_path, requests_per_minute=3)
    serving.promote(OLD)
    assert [serving.chat().status for _ in range(4)] == [200, 200, 200, 429]
    assert serving.chat().headers["retry-after"] == "20"
    assert serving.chat(key=OTHER_KEY).status == 200
    assert {serving.chat(key=OPERATOR_KEY).status for _ in range(9)} == {200}
    serving.now += 19
    assert serving.chat().headers["retry-after"] == "1"
    serving.now += 1
    assert [serving.chat().status for _ in range(2)] == [200, 429]
    serving.now += 3600
    assert [serving.chat().status for _ in range(4)] == [200, 200, 200, 429]


def test_the_access_log_names_callers_and_models_and_nothing_else(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "intent.access"):
        serving.chat()
        serving.chat("nobody's", key="a-wrong-key-0123456789")
        serving.chat(OLD, key=OPERATOR_KEY)
    assert [r.getMessage().partition(" ms=")[0] for r in caplog.records] == [
        f"caller=app alias=intent model={OLD} version=7 status=200",
        "caller=- alias=- model=- version=- status=401",
        f"caller=operator alias=- model={OLD} version=- status=200",
    ]
    for secret in (APP_KEY, OPERATOR_KEY, "wrong-key", "Hangzhou", "nobody"):
        assert secret not in caplog.text


def test_an_older_request_is_answered_in_its_own_form(serving: Serving) -> None:
    body = {"prompt": "weather", "history": [["hi", "none()"]], "max_new_tokens": 9, "top_k": 4}
    headers = [(b"authorization", APP_KEY.encode()), (b"content-type", b"text/plain")]
    answer = serving.ask("POST", "/api/predict/intent", body, key=None, headers=headers)
    assert answer.fields == {
        "response": "weather_search(Hangzhou)",
        "history": [["hi", "none()"], ["weather", "weather_search(Hangzhou)"]],
    }
    assert answer.headers["content-length"] == str(len(answer.body))
    assert (answer.headers["x-intent-model"], answer.headers["x-intent-version"]) == (OLD, "7")
    [sent] = serving.model.received
    assert (sent.path, sent.scope["raw_path"]) == (CHAT, CHAT.encode())
    assert sent.values("content-type") == ["application/json"]
    assert sent.fields["messages"][0] == SYSTEM
    assert (sent.fields["max_tokens"], sent.fields["top_k"]) == (9, 4)
    again = serving.ask("POST", "/api/predict/intent", answer.fields | {"prompt": "more"})
    assert len(again.fields["history"]) == 3
    for alias in ("nobody", OLD, ".."):
        assert serving.ask("POST", f"/api/predict/{alias}", body).status == 404
    streamed = serving.ask("POST", "/api/predict/intent", body | {"use_stream_chat": True})
    assert (streamed.status, len(serving.model.received)) == (400, 2)


def test_errors_of_the_server_pass_as_they_are(serving: Serving) -> None:
    serving.model.status, serving.model.raw = 400, b'{"error": {"message": "too long"}}'
    for answer in (serving.chat(), serving.ask("POST", "/api/predict/intent", {"prompt": "x"})):
        assert (answer.status, answer.body) == (400, serving.model.raw)
    serving.model.status, serving.model.raw = 200, b"null"
    assert serving.ask("POST", "/api/predict/intent", {"prompt": "x"}).status == 502


def test_a_standard_client_is_served(serving: Serving) -> None:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(serving.app)
        headers = {"Authorization": f"Bearer {APP_KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            body = {"model": "intent", "messages": [{"role": "user", "content": "x"}]}
            return await client.post(CHAT, json=body, headers=headers)

    answer = asyncio.run(run())
    assert answer.json()["choices"][0]["message"]["content"] == serving.model.text


def test_parts_of_a_message_are_not_touched(serving: Serving) -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "杭州\u2028😀"}]}
    serving.ask("POST", CHAT, {"model": "intent", "messages": [parts]})
    assert serving.model.received[0].fields["messages"] == [SYSTEM, parts]


def test_refusals_are_openai_errors(serving: Serving) -> None:
    answer: Answer = serving.chat("nobody")
    error = json.loads(answer.body)["error"]
    assert error.pop("message") == "the model 'nobody' does not exist"
    assert error == {"type": "invalid_request_error", "param": None, "code": "model_not_found"}
    assert answer.headers["content-type"] == "application/json"
