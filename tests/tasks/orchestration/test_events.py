"""Events are posted with the login of Prefect's client, and again while the server is busy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from intent_core.errors import ServiceError
from tasks.orchestration.events import publish_event
from tasks.settings import Settings


class Busy(BaseHTTPRequestHandler):
    """Answers with the server's list of status codes, then with 204."""

    def do_GET(self) -> None:  # the page of CSRF tokens, which Prefect Cloud does not have
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.logins.append(self.headers["authorization"])  # type: ignore[attr-defined]
        codes: list[int] = self.server.codes  # type: ignore[attr-defined]
        self.send_response(codes.pop(0) if codes else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        server.logins = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def post(settings: Settings, server: ThreadingHTTPServer, codes: list[int]) -> list[int]:
    server.codes = codes  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{server.server_port}/api"
    publish_event(settings.model_copy(update={"prefect_url": url}), "e", {}, {})
    return codes


def test_a_locked_database_is_waited_for(settings: Settings, server: ThreadingHTTPServer) -> None:
    assert post(settings, server, [503, 503]) == []


@pytest.mark.parametrize("code", [409, 500])
def test_other_answers_are_errors_at_once(
    settings: Settings, server: ThreadingHTTPServer, code: int
) -> None:
    with pytest.raises(ServiceError, match=str(code)):
        post(settings, server, [code])


@pytest.mark.parametrize(
    ("login", "key", "expected"),
    [
        ("admin:p:ss-wört", "", "Basic YWRtaW46cDpzcy13w7ZydA=="),
        ("", "pnu_of_a_workspace", "Bearer pnu_of_a_workspace"),
        ("admin:pass", "pnu_of_a_workspace", "Basic YWRtaW46cGFzcw=="),
        ("", "", None),
    ],
)
def test_the_login_is_that_of_prefects_client(
    settings: Settings, server: ThreadingHTTPServer, login: str, key: str, expected: str | None
) -> None:
    given = {PREFECT_API_AUTH_STRING: login or None, PREFECT_API_KEY: key or None}
    with temporary_settings(given):
        post(settings, server, [])
    assert server.logins == [expected]  # type: ignore[attr-defined]
