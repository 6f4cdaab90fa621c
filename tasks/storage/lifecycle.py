"""Lifecycle rules of a bucket that abort unfinished uploads: code shared by the drivers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

RULE_ID = "intent-unfinished-uploads:"
"""Start of the ids of our rules; the prefix to which the rule applies follows."""


class AbortRule(NamedTuple):
    """An active rule that aborts unfinished uploads, as it applies to one store of the bucket."""

    prefix: str
    """Prefix of the store's keys; empty for all keys."""
    days: int
    """Days after the upload started; 0 for a rule with a fixed date."""
    is_ours: bool


class Lifecycle(Protocol):
    """The lifecycle rules of a bucket."""

    def list_rules(self) -> tuple[AbortRule, ...] | None:
        """List the rules; None if the server does not support lifecycle rules."""
        ...

    def set_rules(self, prefixes: Sequence[str], days: int) -> None:
        """Add or replace our rule for each prefix; every other rule is kept unchanged."""
        ...


def describe_rule(rule_id: str, rule_prefix: str, days: int, root: str) -> AbortRule | None:
    """Return a rule of the bucket as it applies to the store at `root`; None if it does not."""
    is_ours = rule_id.startswith(RULE_ID)
    if root.startswith(rule_prefix):
        return AbortRule("", days, is_ours)
    if rule_prefix.startswith(root):
        return AbortRule(rule_prefix.removeprefix(root), days, is_ours)
    return None
