"""Shared by the commands: console, error messages, exit codes, JSON output, options."""

import contextlib
import errno
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.cli.completion import complete_recipes
from flows.parameters import load_recipe
from intent_core.errors import ConfigError, DataError, IntentError
from intent_core.json_logs import writes_json_lines
from intent_core.recipe.choices import ExportFormat
from intent_core.recipe.config import PipelineConfig
from intent_core.recipe.loader import parse_value
from tasks.settings import get_settings

console = Console()
_FULL = "free some disk space or choose another path"
_CLOSED = "choose a path that this user may write to"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
}
logger = logging.getLogger(__name__)

EXIT_CODES = {
    0: "success",
    1: "the gate rejected the model",
    2: "usage or configuration error",
    3: "bad data",
    4: "an outside service or the training program failed",
    5: "internal error (bug)",
    130: "stopped with Ctrl-C",
}
"""Exit codes of all commands; also listed in the reference pages."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Recipe (name or YAML file) whose `data` section sets how the export is read.",
        autocompletion=complete_recipes,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one recipe key, e.g. `--set data.utterance_field=text` (repeatable).",
    ),
]

RowFormat = Annotated[
    ExportFormat | None,
    typer.Option(
        "--format",
        help="Format of the rows; default: `data.format` of the recipe, which detects it.",
    ),
]


@contextlib.contextmanager
def reported(
    stopped: str = "finished steps are kept; run the same command again to resume",
) -> Iterator[None]:
    """Turn exceptions into a message and an exit code.

    Args:
        stopped: printed after Ctrl-C: what was kept, and how to resume.

    Raises:
        typer.Exit: with the exit codes of `intent --help`. Only an internal error (5) prints a
            trace.
    """
    try:
        yield
    except IntentError as error:
        _complain(f"{type(error).__name__}: {error}")
        code = 2 if isinstance(error, ConfigError) else 3 if isinstance(error, DataError) else 4
        raise typer.Exit(code) from error
    except OSError as error:
        _complain(_explain(error))
        raise typer.Exit(4) from error
    except Exception as error:
        if refusal := _find_refusal(error):
            _complain(f"ConfigError: {refusal}")
            raise typer.Exit(2) from error
        # Python's own exit code would be 1, which means that the gate rejected the model.
        if writes_json_lines():
            logger.exception("internal error (bug)")
        else:
            Console(stderr=True).print_exception()
        raise typer.Exit(5) from error
    except KeyboardInterrupt as error:
        say(Console(stderr=True), f"stopped; {stopped}")
        raise typer.Exit(130) from error


def _explain(error: OSError) -> str:
    is_plain = error.filename and error.strerror
    parts = f"{error.filename}: {error.strerror}" if is_plain else str(error)
    return ": ".join(filter(None, (parts, _REMEDIES.get(error.errno or 0))))


def _find_refusal(error: Exception) -> ConfigError | None:
    """Return what to do if Prefect refused our login during a flow."""
    if "prefect" not in sys.modules:  # its import is slow
        return None
    from prefect.exceptions import PrefectHTTPStatusError

    from tasks.orchestration.prefect_client import is_refusal, refused_login

    is_prefects = isinstance(error, PrefectHTTPStatusError)
    return refused_login(get_settings()) if is_prefects and is_refusal(error) else None


def say(where: Console, text: str) -> None:
    """Print a line, or log it if log lines are JSON."""
    if writes_json_lines():
        logger.info(text)
    else:
        where.print(text, soft_wrap=True)


def _complain(text: str) -> None:
    if writes_json_lines():
        logger.error(text)
    else:
        Console(stderr=True).print(text, style="red", markup=False, soft_wrap=True)


def split_overrides(texts: list[str], option: str = "--set") -> dict[str, str]:
    """Return `{"train.seed": "1"}` for `["train.seed=1"]`. Raises `ConfigError`."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"{option} {wrong[0]!r}: expected key=value")
    return {key.strip(): value for key, _, value in (text.partition("=") for text in texts)}


def parse_overrides(texts: list[str]) -> dict[str, Any]:
    """Return `{"train.seed": 1}` for `["train.seed=1"]`. Raises `ConfigError`."""
    return {key: parse_value(text, key) for key, text in split_overrides(texts).items()}


def read_config(
    recipe: str | None,
    overrides: list[str] | None,
    *,
    max_rejection_rate: float | None = None,
    row_format: ExportFormat | None = None,
    field: str | None = None,
) -> PipelineConfig:
    """Load the recipe (None: the defaults) with the options of the command line applied."""
    options = {
        "data.max_rejection_rate": max_rejection_rate,
        "data.format": row_format,
        "data.utterance_field": field,
    }
    changes = parse_overrides(overrides or [])
    changes |= {key: value for key, value in options.items() if value is not None}
    return load_recipe(recipe, changes)


def show_counts(rejected: Mapping[str, int], reported: Mapping[str, int]) -> None:
    """Print the numbers of rejected and reported rows by reason, the most frequent first."""
    for title, counts in (("rejected", rejected), ("reported", reported)):
        for kind, count in Counter(counts).most_common():
            console.print(f"  {title} {count} x {kind}")


def print_json(value: Any) -> None:
    # A terminal that cannot show all characters gets the escapes of JSON.
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(value, ensure_ascii=not is_unicode) + "\n")
