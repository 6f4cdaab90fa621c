"""JSON logs of all our processes (INTENT_LOG_FORMAT=json), with the ids of their flow run."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from intent_core.errors import IntentError
from intent_core.json_logs import JsonFormatter, write_json_lines

# Overrides of Prefect's logging.yml, for this process and its children.
OF_PREFECT = {
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "tasks.settings.log_setup.RunJsonFormatter",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_HANDLERS_DEBUG_FORMATTER": "json",
}


class RunJsonFormatter(JsonFormatter):
    """Adds the ids and names of the current flow run and task run."""

    def find_context(self) -> Mapping[str, str]:
        return {**find_run(), **super().find_context()}


def find_run() -> dict[str, str]:
    """Return ids and names of the current flow run and task run, and of the trace span, if any."""
    context = sys.modules.get("prefect.context")
    if context is None:  # Prefect is not imported, so there is no run
        return {}
    fields: dict[str, str] = {}
    if (flow := context.FlowRunContext.get()) and flow.flow_run:
        fields |= {"flow_run_id": str(flow.flow_run.id), "flow_run_name": flow.flow_run.name}
    if (task := context.TaskRunContext.get()) and task.task_run:
        fields |= {"task_run_id": str(task.task_run.id), "task_run_name": task.task_run.name}
        if task.task_run.flow_run_id:
            fields["flow_run_id"] = str(task.task_run.flow_run_id)
    traces = sys.modules.get("opentelemetry.trace")
    span = traces.get_current_span().get_span_context() if traces else None
    if span and span.is_valid:
        fields |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
    return fields


class OurErrors(logging.Filter):
    """Removes the stack trace of our errors unless the level is DEBUG: the message is enough.

    Also removes Prefect's last line about one of our errors, or about a state that a flow returned
    ("Engine execution exited with unexpected exception"): the run's state has the message.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        is_ours = isinstance(error, IntentError)
        if logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return True
        if is_ours:
            record.exc_info = record.exc_text = None
        is_explained = is_ours or type(error).__name__ in _EXPLAINED
        return not (is_explained and _AFTERWORD in str(record.msg))


# Prefect's exceptions whose message is in the run's state, which this module need not import.
_EXPLAINED = ("CancelledRun", "ParameterTypeError", "SignatureMismatchError")
_AFTERWORD = "exited with unexpected exception"
_OUR_ERRORS = OurErrors()


def prepare_logging(as_json: bool) -> None:
    """Set log levels; with `as_json`, write JSON lines in this process and its children."""
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_OUR_ERRORS)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("flows", "tasks", "intent_core"):
        logging.getLogger(name).setLevel(logging.INFO)
    if as_json:
        os.environ.update(OF_PREFECT)
        write_json_lines(RunJsonFormatter())


def write_server_logging(path: Path) -> dict[str, str]:
    """Write the logging configuration of a vLLM server and return the variables that refer to it.

    vLLM, uvicorn and our access log then write JSON to standard output.
    """
    handled = {"handlers": ["out"], "level": "INFO", "propagate": False}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "intent_core.json_logs.JsonFormatter"}},
        "handlers": {
            "out": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "loggers": dict.fromkeys(("vllm", "uvicorn", "intent", "intent_core"), handled),
        "root": {"handlers": ["out"], "level": "WARNING"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return {"VLLM_LOGGING_CONFIG_PATH": str(path)}
