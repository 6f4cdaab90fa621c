"""Log lines as JSON objects, one per line, for a log collector.

Only listed fields are written: time, level, logger, message, exception, and the context fields in
`FIELDS`. Other attributes of a log record are dropped, so that no secret gets into a log by
accident. We do not use python-json-logger because it writes every extra attribute.
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
    """Add fields to all following log lines of the current context (`contextvars`).

    Args:
        fields: values by name; only the names in `FIELDS` are written.
    """
    _context.set({**_context.get(), **fields})


def read_log_context() -> Mapping[str, str]:
    return _context.get()


class JsonFormatter(logging.Formatter):
    """Formats a record as one line, even if its message has several."""

    def __init__(self, *_: object) -> None:
        """Ignore the format and the date format that a logging configuration passes."""
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
        """Return values of `FIELDS` for records that do not set them."""
        return read_log_context()


def write_json_lines(formatter: logging.Formatter | None = None) -> None:
    """Make all root handlers write JSON lines; without a handler, log to standard error.

    Args:
        formatter: formatter to use; None: `JsonFormatter`.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    for handler in root.handlers:
        handler.setFormatter(formatter or JsonFormatter())


def writes_json_lines() -> bool:
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)
