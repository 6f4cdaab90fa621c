"""JSON log lines: one line per record, with the listed context fields and no others."""

import contextvars
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from intent_core.json_logs import JsonFormatter, bind_log_context


def formatted(message: str, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.makeLogRecord(
        {"name": "tasks.x", "levelname": "INFO", "msg": message, "args": arguments, **extra}
    )
    text = JsonFormatter("default", None, "%").format(record)
    assert "\n" not in text
    told: dict[str, Any] = json.loads(text)
    return told


def test_a_line_is_an_object_whatever_stands_in_it() -> None:
    told = formatted('first\nsecond "%s" 杭州', "x\x00")
    assert told["message"] == 'first\nsecond "x\x00" 杭州'
    assert (told["level"], told["logger"]) == ("INFO", "tasks.x")
    assert datetime.fromisoformat(told["time"]).tzinfo == UTC


def test_an_exception_is_in_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        told = formatted("failed", exc_info=sys.exc_info())
    assert told["exception"].endswith("ValueError: why")


def test_only_what_is_on_the_list_gets_in() -> None:
    told = formatted("asked", model="intent-0", status=200, ms=1.5, api_key="secret", version="")
    assert set(told) == {"time", "level", "logger", "message", "model", "status", "ms"}


def test_what_it_is_about_is_in_every_line_of_that_context() -> None:
    def run() -> None:
        bind_log_context(project="walk")
        bind_log_context(model="intent-0")
        assert formatted("x")["project"] == "walk"
        assert formatted("x", model="intent-1")["model"] == "intent-1", "the record's own counts"

    contextvars.copy_context().run(run)
    assert "project" not in formatted("x")
