"""The page of `intent try` without a browser: its content and its warnings."""

import sys
from pathlib import Path

import pytest
from click.testing import Result
from intent_client import Answer
from typer.testing import CliRunner

from flows.cli.main import app
from flows.playground.models import ModelEndpoint, Reply, ask_all, open_candidate, read_reply
from flows.playground.page import show_answers
from tasks.settings import Settings, get_settings
from tasks.system.ports import choose_free_port

KEY = "a-key-that-nobody-may-see"


def try_page(*options: str) -> Result:
    port = choose_free_port("127.0.0.1")
    return CliRunner().invoke(app, ["try", "--port", str(port), *options])


def reply(text: str, model: str = "intent-0123456789ab") -> Reply:
    answer = Answer(text=text, confidence=0.9731, model=model, version="7", latency_ms=12)
    return read_reply(answer, version="")


def test_calls_are_a_table_with_who_gave_them_and_how_sure() -> None:
    page = show_answers("rain?", (reply("weather_search(city=Hangzhou,tomorrow);music_exit()"),))
    for part in ("weather_search", "city", "Hangzhou", "tomorrow", "music_exit", "97.3 %"):
        assert part in page
    assert "intent-0123456789ab" in page and ">7</td>" in page
    assert "The models" not in page and "Candidate" not in page


def test_only_the_calls_that_differ_are_marked() -> None:
    page = show_answers("rain?", (reply("a(x);b()"), reply("a(x);c()")))
    assert "The models disagree" in page
    marked = page.split('<tr class="other">')[1:]
    assert [row.split("<td>")[1].split("</td>")[0] for row in marked] == ["b", "c"]


def test_the_same_calls_written_otherwise_agree() -> None:
    page = show_answers("rain?", (reply("a(x);b()"), reply(' a( "x" ) ; b()')))
    assert "The models agree" in page and 'class="other"' not in page


def test_two_answers_that_are_no_calls_are_told_apart_by_their_text() -> None:
    assert "The models disagree" in show_answers("rain?", (reply("rain"), reply("sun")))
    assert "The models agree" in show_answers("rain?", (reply("rain"), reply("rain")))


def test_what_was_typed_or_answered_is_never_markup() -> None:
    evil = '<img src=x onerror="alert(1)">'
    page = show_answers(evil, (reply(evil), Reply(problem=evil)))
    assert "<img" not in page and "&lt;img" in page


def test_a_server_that_is_down_and_nothing_served_are_said_on_the_page(
    tmp_path: Path, closed_port: int
) -> None:
    settings = Settings(home=tmp_path)
    endpoint = ModelEndpoint(base_url=f"http://127.0.0.1:{closed_port}/v1", key=KEY, model="intent")
    champion, candidate = ask_all(settings, "rain?", endpoint)
    assert champion.problem.startswith("no model is being served")
    assert "failed: " in candidate.problem
    page = show_answers("rain?", (champion, candidate))
    assert "The models" not in page and "Traceback" not in page and KEY not in page
    assert "the utterance is empty" in ask_all(settings, " ", endpoint)[1].problem


def test_another_server_is_asked_with_the_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTENT_CANDIDATE_KEY", KEY)
    get_settings.cache_clear()
    with open_candidate(get_settings(), "http://127.0.0.1:9/v1", "theirs") as endpoint:
        assert (endpoint.model, endpoint.key.get_secret_value()) == ("theirs", KEY)
        assert KEY not in repr(endpoint)


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("http://127.0.0.1:9/v1", "INTENT_CANDIDATE_KEY is not set"),
        ("intent-000000000000", "not found in the store"),
        ("../secrets", "not found in the store"),
    ],
)
def test_a_candidate_that_cannot_be_asked_is_refused_at_once(candidate: str, said: str) -> None:
    done = try_page("--candidate", candidate)
    assert done.exit_code == 2 and said in done.stderr


def test_without_gradio_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = try_page()
    assert done.exit_code == 2 and "intent-pipeline[web]" in done.stderr
