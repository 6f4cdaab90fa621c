"""What the data check looks at and what it finds: a rule, how the data stands, a remedy."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.language.calls import Call
from intent_core.language.intent_schema import list_intents
from intent_core.quality.label_errors import LabelSuspicion
from intent_core.recipe.choices import Rule

MOST_NAMED = 10

Labels = Sequence[tuple[Call, ...]]


class Finding(BaseModel):
    """One rule of the data check, and how the data stands to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["warning", "note"]
    rule: Rule
    message: str
    remedy: str
    numbers: dict[str, float]
    is_broken: bool = True
    """False: the rule is kept, and this tells what it recommends."""

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}"


class Corpus(NamedTuple):
    """What is checked: unique utterances with their calls, and what came before and beside them."""

    utterances: Sequence[str]
    labels: Labels
    test: Labels | None = None
    """The test split's calls; None when nothing was split."""
    num_duplicates: int = 0
    num_near_duplicates: int = 0
    """Utterances that have a near-duplicate."""
    num_conflicts: int = 0
    num_unresolved: int = 0
    """Conflicts that were not settled: their utterances are left out."""
    num_left_out: int = 0
    num_overlap: int = 0
    suspicions: Sequence[LabelSuspicion] = ()
    lengths: Sequence[int] = ()
    """Tokens of each whole sample, prompt and answer, where a tokenizer was at hand."""
    seq_length: int | None = None
    """What the recipe trains with."""


def stop_on_findings(findings: Iterable[Finding], rules: Sequence[Rule]) -> None:
    """`DataError` when a rule that must hold is broken."""
    broken = [finding for finding in findings if finding.is_broken and finding.rule in rules]
    if broken:
        listed = "\n".join(f"  {f.rule}: {f.message}. {f.remedy}" for f in broken)
        raise DataError(f"the data breaks {len(broken)} rule(s) of data.stop_on:\n{listed}")


def render_findings(findings: Sequence[Finding], title: str) -> str:
    """The findings as markdown."""
    if not findings:
        return f"# {title}\n\nNothing found: every rule is kept.\n"
    rows = "\n".join(
        f"| {f.severity} | {f.rule} | {_escape(f.message)} | {_escape(f.remedy)} |"
        for f in findings
    )
    return f"# {title}\n\n| severity | rule | what | what to do |\n|---|---|---|---|\n{rows}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def warn(rule: Rule, message: str, remedy: str, **numbers: float) -> Finding:
    """A rule that is broken."""
    return Finding(severity="warning", rule=rule, message=message, remedy=remedy, numbers=numbers)


def note(rule: Rule, message: str, remedy: str, **numbers: float) -> Finding:
    """Something to know."""
    return Finding(severity="note", rule=rule, message=message, remedy=remedy, numbers=numbers)


def list_some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more


def count_intents(labels: Labels) -> dict[str, int]:
    """Utterances per intent, by name; an intent twice in one utterance counts once."""
    return {schema.intent: schema.num_utterances for schema in list_intents(labels)}
