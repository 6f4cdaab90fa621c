"""An annotator finds planted faults of each kind with the data check alone, each with its line."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intent_core.datasets.check_export import check_export
from intent_core.language.calls import Argument, Call, format_calls, parse_calls
from intent_core.recipe.config import PipelineConfig

ROWS = Path(__file__).parents[2] / "data/crosswoz_zh/all.jsonl"
CONFIG = PipelineConfig()
NUM_PLANTED = 5
MIN_RECALL = 0.9

SPELLINGS = {"高档型": "高档", "舒适型": "舒适", "经济型": "经济", "4.5分以上": "4.5分 以上"}

Row = dict[str, Any]
Labelled = tuple[str, list[Call]]


def replace_value(calls: list[Call], old: str, new: list[str]) -> list[Call]:
    """Return the calls with some values in place of one."""
    return [
        call.model_copy(
            update={
                "arguments": tuple(
                    argument
                    for given in call.arguments
                    for argument in (
                        [Argument(value=value) for value in new] if given.value == old else [given]
                    )
                )
            }
        )
        for call in calls
    ]


def values_of(calls: list[Call]) -> list[str]:
    return [argument.value for call in calls for argument in call.arguments]


def swap_values(text: str, calls: list[Call]) -> Labelled | None:
    values = values_of(calls)
    if len(calls) > 1 or len(set(values)) < 2 or len(values) != len(set(values)):
        return None
    first, *rest = calls[0].arguments
    return text, [calls[0].model_copy(update={"arguments": (*rest, first)})]


def join_by_a_comma(text: str, calls: list[Call]) -> Labelled | None:
    """Put a comma into a name: it is one value for the user, and two for the syntax."""
    values = [value for value in values_of(calls) if len(value) > 5 and value.isalpha()]
    if not values or text.count(values[0]) != 1:
        return None
    head, tail = values[0][:2], values[0][2:]
    return text.replace(values[0], f"{head}，{tail}"), replace_value(calls, values[0], [head, tail])


def drop_a_value(text: str, calls: list[Call]) -> Labelled | None:
    values = values_of(calls)
    return (text, replace_value(calls, values[-1], [])) if values else None


def spell_a_value_otherwise(text: str, calls: list[Call]) -> Labelled | None:
    for value, other in SPELLINGS.items():
        if value in values_of(calls):
            return text, replace_value(calls, value, [other])
    return None


def misspell_an_intent(text: str, calls: list[Call]) -> Labelled | None:
    name = calls[0].intent
    place = len(name) // 2
    other = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    if other == name or len(name) < 10:
        return None
    return text, [calls[0].model_copy(update={"intent": other}), *calls[1:]]


def break_text(text: str, calls: list[Call]) -> Labelled | None:
    broken = {
        0: text.replace("，", "&nbsp;"),
        1: text[:2] + "\ufffd" + text[3:],
        2: text.encode().decode("latin-1"),
        3: text[:3] + "\x07" + text[3:],
        4: f"<b>{text}</b>",
    }
    return broken[len(text) % 5], calls


def label_with_another_intent(text: str, calls: list[Call]) -> Labelled | None:
    others = {"thank": "hotel_ask_price", "taxi_ask_car": "thank", "attraction_ask_phone": "thank"}
    if len(calls) > 1 or calls[0].intent not in others:
        return None
    return text, [Call(intent=others[calls[0].intent])]


def name_something_else(text: str, calls: list[Call]) -> Labelled | None:
    values = values_of(calls)
    return (text, replace_value(calls, values[0], ["颐和园南门外"])) if values else None


FAULTS: dict[str, Callable[[str, list[Call]], Labelled | None]] = {
    "value-order": swap_values,
    "joined-values": join_by_a_comma,
    "missing-values": drop_a_value,
    "value-spellings": spell_a_value_otherwise,
    "look-alike-intents": misspell_an_intent,
    "broken-text": break_text,
    "label-errors": label_with_another_intent,
    "foreign-values": name_something_else,
}


def plant(rows: list[Row], seed: int) -> dict[str, set[int]]:
    """Change rows in place; return the lines of each kind of fault."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    lines: dict[str, set[int]] = {}
    for rule, change in FAULTS.items():
        lines[rule] = set()
        for index in list(order):
            if len(lines[rule]) == NUM_PLANTED:
                break
            row = rows[index]
            if changed := change(row["instruction"], list(parse_calls(row["output"]))):
                text, calls = changed
                rows[index] = {"instruction": text, "output": format_calls(calls)}
                lines[rule].add(index + 1)
                order.remove(index)
        assert len(lines[rule]) == NUM_PLANTED, rule
    return lines


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_faults_are_found_with_their_lines(tmp_path: Path, seed: int) -> None:
    rows = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()]
    planted = plant(rows, seed)
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    checked = check_export(path, CONFIG, out=tmp_path / "out")
    named: dict[str, set[int]] = {}
    for finding in checked.findings:
        if finding.file:
            listed = (tmp_path / "out" / finding.file).read_bytes().splitlines()
            named[finding.rule] = {json.loads(line).get("line", 0) for line in listed}
    hits = {rule: lines & named.get(rule, set()) for rule, lines in planted.items()}
    missed = {rule: len(planted[rule] - hits[rule]) for rule in planted}
    assert sum(map(len, hits.values())) >= MIN_RECALL * NUM_PLANTED * len(FAULTS), missed
