"""The metrics that our dashboard and alerts name, and those a server shows."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tasks.settings import CHECKOUT

FOLDER = CHECKOUT / "deployments" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]

_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_KEYWORDS = {"bool", "and", "or", "unless", "on", "ignoring", "group_left", "group_right"}
# Made by Prometheus itself, one for each target.
MADE_BY_PROMETHEUS = {"up"}


def expressions() -> Iterator[str]:
    """Of every panel and every alert."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for rule in RULES)


def metrics_of(expression: str) -> set[str]:
    """What is neither a function, a label, a range nor a keyword."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without)\s*\([^)]*\)", "", text)
    words = {
        match.group()
        for match in _WORD.finditer(text)
        if not re.match(r"\s*\(", text[match.end() :])
    }
    return words - _KEYWORDS - MADE_BY_PROMETHEUS - {"by", "without"}


def labels_of(expression: str) -> dict[str, set[str]]:
    """By metric, the labels it is chosen by; those Prometheus adds are left out."""
    found: dict[str, set[str]] = {}
    for name, chosen in re.findall(r"([A-Za-z_:][\w:]*)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*=~?", chosen)) - {"job", "instance"}
        found.setdefault(name, set()).update(labels)
    return found


def shown_by(text: str) -> set[str]:
    """Every name that a server's page has samples of, or would have once it is asked something."""
    names: set[str] = set()
    for family in text_string_to_metric_families(text):
        names |= {sample.name for sample in family.samples}
        endings = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
        }.get(family.type, ("",))
        names |= {f"{family.name}{ending}" for ending in endings}
    return names
