"""What the commands share: their console, their errors and exit codes, their JSON."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from intent_core.errors import ConfigError, DataError, IntentError

console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


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
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True
        )
        code = 2 if isinstance(error, ConfigError) else 3 if isinstance(error, DataError) else 4
        raise typer.Exit(code) from error
    except OSError as error:
        message = f"{error}: free some space or choose another place"
        Console(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
        raise typer.Exit(4) from error
    except Exception as error:
        # 1 is the gate's: a fault of ours must not look like its no.
        Console(stderr=True).print_exception()
        raise typer.Exit(5) from error
    except KeyboardInterrupt as error:
        Console(stderr=True).print(f"stopped; {stopped}")
        raise typer.Exit(130) from error


def split_overrides(texts: list[str]) -> dict[str, str]:
    """`["train.seed=1"]` -> `{"train.seed": "1"}`."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: write it as section.key=value")
    return {key.strip(): value for key, _, value in (text.partition("=") for text in texts)}


def show_counts(rejected: Mapping[str, int], reported: Mapping[str, int]) -> None:
    """How many rows were rejected and reported, by reason, the most frequent first."""
    for title, counts in (("rejected", rejected), ("reported", reported)):
        for kind, count in Counter(counts).most_common():
            console.print(f"  {title} {count} x {kind}")


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
