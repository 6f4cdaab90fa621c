"""A log line as one JSON object, for whoever collects them.

What stands in it is on a list: a time, a level, a logger, a message, a trace, and names of what it
is about. Whatever else a record carries stays out, so nothing gets in that nobody meant to.
"""

import contextvars
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

FIELDS = (
    *("flow_run_id", "flow_run_name", "task_run_id", "task_run_name", "trace_id", "span_id"),
    *("project", "alias", "model", "version", "caller", "status", "ms"),
)
_nothing: Mapping[str, str] = MappingProxyType({})
_about: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "about", default=_nothing
)


def say_what_it_is_about(**fields: str) -> None:
    """Put these of `FIELDS` into every line from here on, in this context."""
    _about.set({**_about.get(), **fields})


def read_what_it_is_about() -> Mapping[str, str]:
    return _about.get()


class JsonFormatter(logging.Formatter):
    """One line a record, whatever lines its message has."""

    def __init__(self, *_: object) -> None:
        """Whoever sets up logging from a file gives a format and a date's; ours are fixed."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        known = {**self.find_context(), **vars(record)}
        told |= {name: known[name] for name in FIELDS if known.get(name) not in (None, "")}
        return json.dumps(told, ensure_ascii=False, default=str)

    def find_context(self) -> Mapping[str, str]:
        """What it is about, where the record itself does not say."""
        return read_what_it_is_about()


def write_json_lines(formatter: logging.Formatter | None = None) -> None:
    """From here on all that this process logs is JSON, on standard error."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in root.handlers:
        handler.setFormatter(formatter or JsonFormatter())


def writes_json_lines() -> bool:
    return any(isinstance(one.formatter, JsonFormatter) for one in logging.getLogger().handlers)
