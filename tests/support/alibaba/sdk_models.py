"""Validate requests against the models of an SDK: field names, types and required fields."""

import inspect
import re
from typing import Any, get_args, get_origin, get_type_hints


def check_request(kind: type[Any], content: dict[str, Any], whole: bool = True) -> list[str]:
    """Return the errors of a body by the model `kind`; with `whole`, it must be complete."""
    return _check(kind, content, kind.__name__, whole)


def check_query(kind: type[Any], query: dict[str, str]) -> list[str]:
    """Return the unknown names of a query, whose values are all text."""
    unknown = query.keys() - _wire_names(kind).values()
    return [f"{kind.__name__} has no {name}" for name in sorted(unknown)]


def _check(kind: type[Any], content: Any, where: str, whole: bool) -> list[str]:
    if not isinstance(content, dict):
        return [f"{where} is no object"]
    names = _wire_names(kind)
    attributes = {wire: attribute for attribute, wire in names.items()}
    faults = [f"{where} has no {name}" for name in sorted(content.keys() - attributes.keys())]
    hints = _hints(kind)
    for wire in content.keys() & attributes.keys():
        faults += _check_value(hints[attributes[wire]], content[wire], f"{where}.{wire}", whole)
    needed = [names[name] for name in _required(kind)] if whole else []
    return faults + [f"{where} lacks {name}" for name in needed if not content.get(name)]


def _check_value(hint: Any, value: Any, where: str, whole: bool) -> list[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        pairs = enumerate(value)
        return [
            f for n, one in pairs for f in _check_value(arguments[0], one, f"{where}.{n}", whole)
        ]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        return [
            f
            for n, one in value.items()
            for f in _check_value(arguments[1], one, f"{where}.{n}", whole)
        ]
    if hasattr(hint, "to_map"):
        return _check(hint, value, where, whole)
    if hint is Any or (type(value) is hint):
        return []
    return [f"{where} is {type(value).__name__}, not {getattr(hint, '__name__', hint)}"]


def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind.__init__, vars(inspect.getmodule(kind)))


def _wire_names(kind: type[Any]) -> dict[str, str]:
    """Map each attribute to its name in the request, as `to_map` writes it."""
    source = inspect.getsource(kind.to_map)
    pairs = re.findall(r"if self\.(\w+) is not None:\s+(?:result\['([\w.-]+)'\] =|for )", source)
    lists = dict(re.findall(r"result\['([\w.-]+)'\] = \[\]\s+if self\.(\w+) is not None", source))
    return {attribute: wire for wire, attribute in lists.items()} | {a: w for a, w in pairs if w}


def _required(kind: type[Any]) -> list[str]:
    source = inspect.getsource(kind.__init__)
    return re.findall(r"# This parameter is required\.\s+self\.(\w+) =", source)
