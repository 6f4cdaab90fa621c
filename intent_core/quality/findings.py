"""Input and output of the data check: the corpus, and findings with a rule, message and remedy."""

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
    """The result of one rule of the data check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["warning", "note"]
    rule: Rule
    message: str
    remedy: str
    numbers: dict[str, float]
    is_broken: bool = True
    """False: the data complies with the rule, and the finding only makes a recommendation."""

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}"


class Corpus(NamedTuple):
    """The input of the data check: unique utterances with their calls, and counts of the rest."""

    utterances: Sequence[str]
    labels: Labels
    test: Labels | None = None
    """The calls of the test split; None if the data was not split."""
    num_duplicates: int = 0
    num_near_duplicates: int = 0
    """Number of utterances that have a near-duplicate."""
    num_conflicts: int = 0
    num_unresolved: int = 0
    """Number of conflicts without a decision; their utterances are left out."""
    num_left_out: int = 0
    num_overlap: int = 0
    suspicions: Sequence[LabelSuspicion] = ()
    lengths: Sequence[int] = ()
    """Tokens of each sample, prompt and answer; empty if no tokenizer was available."""
    seq_length: int | None = None
    """`train.seq_length`; None for `auto`."""


def stop_on_findings(findings: Iterable[Finding], rules: Sequence[Rule]) -> None:
    """Raise an error if a broken rule must stop the run.

    Args:
        findings: the findings of the data check.
        rules: the rules in `data.stop_on`.

    Raises:
        DataError: one of the rules is broken; the message lists its findings.
    """
    broken = [finding for finding in findings if finding.is_broken and finding.rule in rules]
    if broken:
        listed = "\n".join(f"  {f.rule}: {f.message}. {f.remedy}" for f in broken)
        raise DataError(f"the data breaks {len(broken)} rule(s) in data.stop_on:\n{listed}")


def render_findings(findings: Sequence[Finding], title: str) -> str:
    """Return the findings as a Markdown page.

    Args:
        findings: the findings of the data check.
        title: heading of the page.
    """
    if not findings:
        return f"# {title}\n\nNo findings: the data complies with every rule.\n"
    rows = "\n".join(
        f"| {f.severity} | {f.rule} | {_escape(f.message)} | {_escape(f.remedy)} |"
        for f in findings
    )
    return f"# {title}\n\n| severity | rule | finding | what to do |\n|---|---|---|---|\n{rows}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def warn(rule: Rule, message: str, remedy: str, **numbers: float) -> Finding:
    """Return a finding that should be fixed."""
    return Finding(severity="warning", rule=rule, message=message, remedy=remedy, numbers=numbers)


def note(rule: Rule, message: str, remedy: str, **numbers: float) -> Finding:
    """Return a finding for information."""
    return Finding(severity="note", rule=rule, message=message, remedy=remedy, numbers=numbers)


def list_some(names: Iterable[str]) -> str:
    """Return the first `MOST_NAMED` names as text, and the number of the remaining ones.

    Args:
        names: the names, in order.
    """
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more


def count_intents(labels: Labels) -> dict[str, int]:
    """Return the number of utterances per intent, sorted by name.

    An intent that occurs twice in one utterance counts once.

    Args:
        labels: the calls of each utterance.
    """
    return {schema.intent: schema.num_utterances for schema in list_intents(labels)}
