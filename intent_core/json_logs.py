"""A log line as one JSON object, for a log collector.

Its fields are on a list: time, level, logger, message, exception, and names of what the line is
about (`FIELDS`). Whatever else a record carries stays out, so that no secret gets in by chance.
python-json-logger does the opposite, it writes every extra field: not used here for that reason.
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
_context: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "log_context", default=_nothing
)


def bind_log_context(**fields: str) -> None:
    """Put these of `FIELDS` into every further line of this context."""
    _context.set({**_context.get(), **fields})


def read_log_context() -> Mapping[str, str]:
    return _context.get()


class JsonFormatter(logging.Formatter):
    """One line a record, whatever lines its message has."""

    def __init__(self, *_: object) -> None:
        """A logging configuration gives a format and a date format; ours are fixed."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        known = {**self.find_context(), **vars(record)}
        line |= {name: known[name] for name in FIELDS if known.get(name) not in (None, "")}
        return json.dumps(line, ensure_ascii=False, default=str)

    def find_context(self) -> Mapping[str, str]:
        """What the line is about where the record itself does not say."""
        return read_log_context()


def write_json_lines(formatter: logging.Formatter | None = None) -> None:
    """From here on all that this process logs is JSON, on standard error."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in root.handlers:
        handler.setFormatter(formatter or JsonFormatter())


def writes_json_lines() -> bool:
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)
