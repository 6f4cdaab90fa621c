"""What the commands share: their console, their errors and exit codes, their JSON."""

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

from flows.parameters import load_recipe
from intent_core.errors import ConfigError, DataError, IntentError
from intent_core.json_logs import writes_json_lines
from intent_core.recipe.config import PipelineConfig

console = Console()
_FULL = "free some space or choose another place"
_CLOSED = "choose a place where this user may write"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
}
logger = logging.getLogger(__name__)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="A recipe, by name or file: its `data` section says how to read."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key: --set data.utterance_field=text (repeatable)."),
]


@contextlib.contextmanager
def reported(
    stopped: str = "what was finished is kept, the same command goes on from there",
) -> Iterator[None]:
    """Our errors as one message and an exit code; anything else is a fault and shows its trace.

    `stopped` says what a Ctrl-C leaves behind.
    """
    try:
        yield
    except IntentError as error:
        _complain(f"{type(error).__name__}: {error}")
        code = 2 if isinstance(error, ConfigError) else 3 if isinstance(error, DataError) else 4
        raise typer.Exit(code) from error
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        _complain(f"{error}: {remedy}" if remedy else str(error))
        raise typer.Exit(4) from error
    except Exception as error:
        # 1 is the gate's: a fault of ours must not look like its no.
        if writes_json_lines():
            logger.exception("a fault of ours")
        else:
            Console(stderr=True).print_exception()
        raise typer.Exit(5) from error
    except KeyboardInterrupt as error:
        say(Console(stderr=True), f"stopped; {stopped}")
        raise typer.Exit(130) from error


def say(where: Console, text: str) -> None:
    """A line for a person, or for who collects them."""
    if writes_json_lines():
        logger.info(text)
    else:
        where.print(text, soft_wrap=True)


def _complain(text: str) -> None:
    if writes_json_lines():
        logger.error(text)
    else:
        Console(stderr=True).print(text, style="red", markup=False, soft_wrap=True)


def split_overrides(texts: list[str]) -> dict[str, str]:
    """`["train.seed=1"]` -> `{"train.seed": "1"}`."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: write it as section.key=value")
    return {key.strip(): value for key, _, value in (text.partition("=") for text in texts)}


def read_config(
    recipe: str | None, overrides: list[str] | None, max_rejection_rate: float | None
) -> PipelineConfig:
    """The recipe that is named, or the defaults, with what the command line changes."""
    changes = split_overrides(overrides or [])
    if max_rejection_rate is not None:
        changes["data.max_rejection_rate"] = str(max_rejection_rate)
    return load_recipe(recipe, changes)


def show_counts(rejected: Mapping[str, int], reported: Mapping[str, int]) -> None:
    """How many rows were rejected and reported, by reason, the most frequent first."""
    for title, counts in (("rejected", rejected), ("reported", reported)):
        for kind, count in Counter(counts).most_common():
            console.print(f"  {title} {count} x {kind}")


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
