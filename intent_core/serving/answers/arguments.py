"""The arguments of a call as a JSON object, and a call from such an object.

A value has the name of its slot where the label or the vocabulary gives one, else `arg1`, `arg2`
and so on by its position in the call. A name that occurs more than once has a list of values.
"""

import json
import re
from collections.abc import Iterator, Mapping

from intent_core.language.calls import Argument, Call
from intent_core.language.slot_names import name_slots
from intent_core.language.vocabulary import Vocabulary

_POSITION = re.compile(r"arg[1-9][0-9]*")


def name_arguments(call: Call, vocabulary: Vocabulary | None) -> dict[str, str | list[str]]:
    """Return the arguments of a call by name, in order.

    Args:
        call: a call of the model's answer.
        vocabulary: the intents of the model and their slots, if they are known.
    """
    names = name_slots(call, vocabulary) if vocabulary else [a.name for a in call.arguments]
    values: dict[str, list[str]] = {}
    for position, (name, argument) in enumerate(zip(names, call.arguments, strict=True), 1):
        values.setdefault(name or f"arg{position}", []).append(argument.value)
    return {name: said if len(said) > 1 else said[0] for name, said in values.items()}


def read_call(intent: str, arguments: Mapping[str, object], vocabulary: Vocabulary | None) -> Call:
    """Return the call in the form in which the model says it.

    Args:
        intent: the intent.
        arguments: value by name, from `name_arguments` or from a caller.
        vocabulary: the intents of the model and their slots; names that it gives are left out.

    Raises:
        ValueError: the intent or a name cannot be part of a call.
    """
    named = tuple(
        Argument(value=value, name=None if _POSITION.fullmatch(name) else name)
        for name, value in _list_values(arguments)
    )
    call = Call(intent=intent, arguments=named)
    plain = Call(intent=intent, arguments=tuple(Argument(value=a.value) for a in named))
    # The labels of a model state no name that the vocabulary gives.
    is_implied = vocabulary and name_slots(plain, vocabulary) == tuple(a.name for a in named)
    return plain if is_implied else call


def _list_values(arguments: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        for part in value if isinstance(value, list) else [value]:
            if part is not None:
                yield name, part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
