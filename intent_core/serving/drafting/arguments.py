"""Arguments as an answer writes them: quotes, escapes and slot names."""

from functools import lru_cache

from intent_core.errors import CallSyntaxError
from intent_core.language.calls import Argument, Call, format_calls, parse_calls


@lru_cache(maxsize=1024)
def write_value(value: str) -> str:
    """Return a value as it is written in an answer, in quotes where it needs them.

    Args:
        value: the value.
    """
    return format_calls([Call(intent="x", arguments=(Argument(value=value),))])[2:-1]


@lru_cache(maxsize=1024)
def read_value(argument: str) -> str:
    """Return the value of an argument; of an unfinished one, what there is of it.

    Args:
        argument: the argument, as written.
    """
    written = split_name(argument)[1]
    if not written.startswith('"'):
        return written
    for closing in ("", '"'):
        try:
            return parse_calls(f"x({written}{closing})")[0].arguments[0].value
        except CallSyntaxError:
            continue
    return written[1:]


def split_name(argument: str) -> tuple[str, str]:
    """Return the slot name of an argument, "" without one, and its value as written.

    Args:
        argument: the argument, which may be unfinished.
    """
    if argument.startswith('"') or "=" not in argument:
        return "", argument
    name, _, value = argument.partition("=")
    return name.strip(), value.lstrip()
