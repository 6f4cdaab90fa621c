from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.fake_vllm import APP_KEY, CHAT, OLD, OPERATOR_KEY, Serving


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD)
    return serving


UNSERVED = [
    ("POST", path)
    for path in (
        *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations"),
        *("/collective_rpc", "/sleep", "/wake_up", "/reset_prefix_cache", "/pause", "/detokenize"),
        *("/v1/embeddings", "/v1/responses", "/v2/rerank", "/inference/v1/generate", "/health"),
        *("//v1/chat/completions", "/v1/chat/completions/", "/v1/../adapters", "/v1/./models"),
        *("/V1/chat/completions", "/v1/chat/completions\x00", "/v1/chat/completions?", "", "*"),
        *("/v1/chat/completions/../../adapters", "/api/predict/", "/api/predict", "v1/models"),
        *("/api/predict/intent/", "/api/predict/intent/../../adapters", "/api/predict//"),
        *("http://host/v1/chat/completions", "/v1／chat/completions", "/v1/models", "/metrics"),
        "/api/predict/ïntent",
    )
] + [
    *[("GET", CHAT), ("OPTIONS", CHAT), ("HEAD", "/health"), ("get", "/health"), ("PUT", CHAT)],
    *[("DELETE", "/adapters/x"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/version")],
    *[("GET", "/metrics/"), ("GET", "/metricsx"), ("GET", "/health/"), ("GET", "/server_info")],
    *[("CONNECT", "/v1/models"), ("GET", "/api/predict/intent")],
]


@pytest.mark.parametrize(("method", "path"), UNSERVED)
def test_other_paths_are_served_to_nobody(serving: Serving, method: str, path: str) -> None:
    for key, status in ((APP_KEY, 404), (OPERATOR_KEY, 404), (None, 401), ("wrong", 401)):
        answer = serving.ask(method, path, {"model": "intent", "prompt": "x"}, key=key)
        assert answer.status == status
        assert answer.fields["error"]["type"]
    assert serving.model.received == []
    assert serving.number("intent_refused_requests_total", reason="path") == 2


@pytest.mark.parametrize(
    "scope",
    [
        {"path": CHAT, "raw_path": b"/v1/chat%2Fcompletions"},
        {"path": CHAT, "raw_path": b"/v1/%63hat/completions"},
        {"path": CHAT, "raw_path": b"/adapters"},
        {"path": CHAT, "root_path": "/v1/chat"},
        {"path": "/api/predict/intent", "raw_path": b"/api/predict/%69ntent"},
    ],
)
def test_a_path_that_could_be_another_is_not_served(
    serving: Serving, scope: dict[str, Any]
) -> None:
    path = scope.pop("path")
    for key in (APP_KEY, OPERATOR_KEY):
        body = {"model": "intent", "prompt": "x"}
        assert serving.ask("POST", path, body, key=key, **scope).status == 404
    assert serving.model.received == []


def test_a_server_that_keeps_no_raw_path_is_served(serving: Serving) -> None:
    assert serving.ask("GET", "/v1/models", raw_path=None).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/metrics"), ("POST", "/tokenize"), ("GET", "/intent/status")]
)
def test_some_paths_are_the_operators(serving: Serving, method: str, path: str) -> None:
    body = {"model": "intent"}
    for key, status in ((APP_KEY, 404), (None, 401), (OPERATOR_KEY, 200)):
        assert serving.ask(method, path, body, key=key).status == status
    for sent in serving.model.received:
        assert sent.values("authorization") == [f"Bearer {OPERATOR_KEY}"]


def test_health_needs_no_key(serving: Serving) -> None:
    assert serving.ask("GET", "/health", key=None).status == 200
    assert serving.model.received[0].path == "/health"


def test_one_model_is_described(serving: Serving) -> None:
    (listed,) = serving.ask("GET", "/v1/models").fields["data"]
    answer = serving.ask("GET", "/v1/models/intent")
    assert (answer.status, answer.fields) == (200, listed)
    missing = serving.ask("GET", "/v1/models/nothing")
    assert (missing.status, missing.fields["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "named"),
    [("/v1/responses", CHAT), ("/chat/completions", "must end with /v1"), ("/v1/audio", CHAT)],
)
def test_an_unserved_path_says_what_to_use(serving: Serving, path: str, named: str) -> None:
    error = serving.ask("POST", path, {"model": "intent"}).fields["error"]
    assert error["code"] == "path_not_served"
    assert named in error["message"]
