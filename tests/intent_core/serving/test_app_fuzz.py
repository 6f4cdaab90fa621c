"""Random requests never raise an exception; vLLM receives only allowed paths and known models."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intent_core.serving.access.aliases import Trial, is_content_name
from tests.support.servers.fake_vllm import APP_KEY, CHAT, NEW, OLD, OPERATOR_KEY, Serving

WITH_MODEL = {CHAT, "/v1/completions", "/tokenize"}
WITHOUT = {"/health", "/metrics", "/v1/models"}

PATHS = st.one_of(
    st.sampled_from(
        [
            *sorted(WITH_MODEL | WITHOUT),
            "/v1/intents",
            "/intent/status",
            "/api/predict/intent",
            "/adapters",
        ]
    ),
    st.builds(
        "".join,
        st.lists(st.sampled_from(["/", "v1", "chat", "completions", "..", "%2f", "api", "\x00"])),
    ),
    st.text(max_size=20),
)
NAMES = st.one_of(st.sampled_from(["intent", OLD, NEW, "../x"]), st.text(max_size=20))
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
JSON = st.recursive(
    PLAIN, lambda x: st.lists(x) | st.dictionaries(st.text(max_size=9), x), max_leaves=8
)
FIELDS = st.dictionaries(
    st.sampled_from(["messages", "prompt", "history", "temperature", "max_new_tokens", "stream"]),
    JSON,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda fields, model: {**fields, "model": model}, FIELDS, NAMES | JSON),
    FIELDS,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"Authorization", b"content-length", b"x"]),
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([f"Bearer {key}".encode() for key in (APP_KEY, OPERATOR_KEY)]),
        ),
    ),
    max_size=3,
)


@pytest.fixture(scope="module", params=[None, "canary", "shadow"])
def serving(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Serving:
    serving = Serving(tmp_path_factory.mktemp("serving"), max_body_bytes=200)
    trial = Trial(model=NEW, mode=request.param, share=1.0) if request.param else None
    serving.promote(OLD, trial=trial)
    return serving


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["GET", "POST", "POST", "DELETE", "OPTIONS", "get", ""]),
    path=PATHS,
    body=BODIES,
    headers=HEADERS,
    key=st.sampled_from([None, APP_KEY, OPERATOR_KEY]),
    leaves_after=st.none() | st.integers(0, 1),
)
def test_whatever_is_sent(
    serving: Serving,
    method: str,
    path: str,
    body: object,
    headers: Any,
    key: Any,
    leaves_after: Any,
) -> None:
    serving.model.received.clear()
    more = {"key": key, "headers": headers, "leaves_after": leaves_after}
    answer = serving.ask(method, path, body, **more)
    assert answer.status in {0, 200, 400, 401, 403, 404, 413}
    for sent in serving.model.received:
        assert sent.path in WITH_MODEL | WITHOUT
        if sent.path == "/health":
            continue
        assert sent.values("authorization") == [f"Bearer {OPERATOR_KEY}"]
        if sent.path in WITH_MODEL:
            assert is_content_name(sent.fields["model"])
            assert sent.values("content-length") == [str(len(sent.body))]
    assert serving.metrics.read_in_flight() == {}
