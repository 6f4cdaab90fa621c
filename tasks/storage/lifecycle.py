"""Lifecycle rules of a bucket that abort unfinished uploads: what the drivers share."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

RULE_ID = "intent-unfinished-uploads:"
"""Ids of our rules start with it; the prefix that the rule is for follows."""


class AbortRule(NamedTuple):
    """A rule in force that aborts unfinished uploads, as it bears on one store of the bucket."""

    prefix: str
    """Of the store's keys; empty for all of them."""
    days: int
    """After the upload began; 0 for a rule that names a date."""
    is_ours: bool


class Lifecycle(Protocol):
    """The lifecycle rules of a bucket."""

    def list_rules(self) -> tuple[AbortRule, ...] | None:
        """None where the server has no lifecycle rules."""
        ...

    def set_rules(self, prefixes: Sequence[str], days: int) -> None:
        """Add a rule of ours for each prefix, or replace it. Every other rule stays as it is."""
        ...


def describe_rule(rule_id: str, rule_prefix: str, days: int, root: str) -> AbortRule | None:
    """A rule of the bucket as it bears on the store at `root`; None if it does not."""
    is_ours = rule_id.startswith(RULE_ID)
    if root.startswith(rule_prefix):
        return AbortRule("", days, is_ours)
    if rule_prefix.startswith(root):
        return AbortRule(rule_prefix.removeprefix(root), days, is_ours)
    return None
