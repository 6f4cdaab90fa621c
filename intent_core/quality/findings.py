"""Input and output of the data check: the corpus, and findings with a rule, message and remedy.

A rule yields each finding with all rows behind it, and each row has its place in the export.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from intent_core.errors import DataError
from intent_core.files import write_jsonl
from intent_core.language.calls import Call, format_calls
from intent_core.language.intent_schema import list_intents
from intent_core.language.vocabulary import Vocabulary
from intent_core.markdown import escape_markdown
from intent_core.quality.label_errors import LabelSuspicion
from intent_core.recipe.choices import Rule

MOST_NAMED = 10
MAX_SLIPS = 0.1
"""Largest share of rows that differ from the others; more of them are a habit, not a mistake."""

Labels = Sequence[tuple[Call, ...]]
FindingRow = dict[str, Any]
"""A row behind a finding: its `utterance` or `intent`, what is wrong, and its place."""
Place = dict[str, Any]
"""`source`, `line`, `byte_offset`, and `mark_result` and `annotator` if the export states them."""


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
    places: str = ""
    """The first rows behind the finding, in the form `export.manifest:3, 8-12`."""
    file: str = ""
    """The file with all rows behind the finding, next to the findings; "" without rows."""

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}"


class RuleResult(NamedTuple):
    """A finding and all rows behind it."""

    finding: Finding
    rows: Sequence[FindingRow] = ()


class Corpus(NamedTuple):
    """The input of the data check: unique utterances with their calls, and the rows left out."""

    utterances: Sequence[str]
    labels: Labels
    places: Sequence[Place] = ()
    """The place of each utterance."""
    test: Labels | None = None
    """The calls of the test split; None if the data was not split."""
    duplicates: Sequence[FindingRow] = ()
    """The rows that repeat another row."""
    near_duplicates: Sequence[FindingRow] = ()
    """The utterances that have a near-duplicate."""
    conflicts: Sequence[FindingRow] = ()
    """The utterances with different labels; `kept` is None if they are left out."""
    left_out: Sequence[FindingRow] = ()
    overlap: Sequence[FindingRow] = ()
    """The utterances that are also in the fixed test set."""
    suspicions: Sequence[LabelSuspicion] = ()
    lengths: Sequence[int] = ()
    """Tokens of each sample, prompt and answer; empty if no tokenizer was available."""
    seq_length: int | None = None
    """`train.seq_length`; None for `auto`."""
    vocabulary: Vocabulary | None = None
    """The label vocabulary, if the recipe has one."""

    def describe(self, index: int, **details: object) -> FindingRow:
        """Return the utterance at an index as a row behind a finding."""
        place = self.places[index] if self.places else {}
        output = format_calls(self.labels[index])
        return {"utterance": self.utterances[index], "output": output, **details, **place}


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
    title = escape_markdown(title)
    if not findings:
        return f"# {title}\n\nNo findings: the data complies with every rule.\n"
    cells = ((f.severity, f.rule, f.message, show_rows(f), f.remedy) for f in findings)
    rows = "\n".join(f"| {' | '.join(map(escape_markdown, row))} |" for row in cells)
    head = "| severity | rule | finding | rows | what to do |\n|---|---|---|---|---|"
    return f"# {title}\n\n{head}\n{rows}\n"


def show_rows(finding: Finding) -> str:
    """Return the first rows behind a finding and the file with all; "" without rows.

    Args:
        finding: a finding of the data check.
    """
    return f"{finding.places}; all in {finding.file}".lstrip("; ") if finding.file else ""


def write_finding_rows(results: Iterable[RuleResult], folder: Path) -> None:
    """Write the rows behind each finding to a JSON lines file.

    Files of an earlier check in the same folder are removed.

    Args:
        results: the results of the data check.
        folder: an existing folder.
    """
    for rule in get_args(Rule):
        (folder / _name_file(rule)).unlink(missing_ok=True)
    for finding, rows in results:
        if finding.file:
            write_jsonl(rows, folder / finding.file)


def _name_file(rule: Rule) -> str:
    return f"{rule.replace('-', '_')}.jsonl"


def _list_places(rows: Iterable[FindingRow]) -> str:
    """Return the places of rows in a few words; "" for rows about intents."""
    by_source: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    for row in rows:
        for place in row.get("records", (row,)):
            if "line" in place and "utterance" in row:
                by_source[place["source"]].extend((place["line"], place["byte_offset"]))
    listed = [
        f"{source}:{text}" if not number else text
        for source, places in by_source.items()
        for number, text in enumerate(_list_lines(np.frombuffer(places, np.int64).reshape(-1, 2)))
    ]
    return list_some(listed)


def _list_lines(places: npt.NDArray[np.int64]) -> Iterator[str]:
    """Yield line numbers and ranges of them; a line with several rows with its byte offsets.

    `places` has the shape (rows, 2): line and byte offset.
    """
    lines, offsets = places[np.lexsort((places[:, 1], places[:, 0]))].T
    is_new = np.ones(len(lines), bool)
    is_new[1:] = (lines[1:] != lines[:-1]) | (offsets[1:] != offsets[:-1])
    lines, offsets = lines[is_new], offsets[is_new]
    starts = np.flatnonzero(np.diff(lines, prepend=-1))
    num_rows = np.diff(starts, append=len(lines))
    alone = lines[starts[num_rows == 1]]
    breaks = np.flatnonzero(np.diff(alone) != 1)
    firsts = alone[np.concatenate([[0], breaks + 1])] if len(alone) else alone
    lasts = alone[np.concatenate([breaks, [len(alone) - 1]])] if len(alone) else alone
    for first, last in zip(firsts, lasts, strict=True):
        yield str(first) if first == last else f"{first}-{last}"
    several = np.repeat(num_rows > 1, num_rows)
    for line, offset in zip(lines[several], offsets[several], strict=True):
        yield f"{line} (byte {offset})"


def warn(
    rule: Rule, message: str, remedy: str, rows: Sequence[FindingRow] = (), **numbers: float
) -> RuleResult:
    """Return a finding that should be fixed, with the rows behind it."""
    return _report("warning", rule, message, remedy, rows, numbers)


def note(
    rule: Rule, message: str, remedy: str, rows: Sequence[FindingRow] = (), **numbers: float
) -> RuleResult:
    """Return a finding for information, with the rows behind it.

    Args:
        rule: name of the rule.
        message: what was noticed.
        remedy: what to do.
        rows: all rows behind the finding.
        **numbers: the numbers in the message.
    """
    return _report("note", rule, message, remedy, rows, numbers)


def _report(
    severity: Literal["warning", "note"],
    rule: Rule,
    message: str,
    remedy: str,
    rows: Sequence[FindingRow],
    numbers: dict[str, float],
) -> RuleResult:
    finding = Finding(
        severity=severity,
        rule=rule,
        message=message,
        remedy=remedy,
        numbers=numbers,
        places=_list_places(rows),
        file=_name_file(rule) if rows else "",
    )
    return RuleResult(finding, rows)


def is_slip(number: int, total: int) -> bool:
    """Return whether so few of some rows are a mistake, not a habit.

    Args:
        number: how many differ from the others.
        total: how many there are.
    """
    # The half allows one slip among five rows.
    return number <= MAX_SLIPS * total + 0.5


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


def describe_intents(corpus: Corpus, intents: Iterable[str]) -> list[FindingRow]:
    """Return intents as rows behind a finding, each with the place of its first utterance.

    Args:
        corpus: the input of the data check.
        intents: the intents, in order; all of them are in the corpus.
    """
    counts = count_intents(corpus.labels)
    first: dict[str, Place] = {}
    for place, calls in zip(corpus.places, corpus.labels, strict=False):
        for call in calls:
            other = first.setdefault(call.intent, place)
            first[call.intent] = min(other, place, key=lambda its: its["byte_offset"])
    return [
        {"intent": intent, "num_utterances": counts[intent], **first.get(intent, {})}
        for intent in intents
    ]
