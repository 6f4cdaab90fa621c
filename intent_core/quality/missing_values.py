"""Find values that an utterance contains and its label does not.

A value is probably missing if

- the utterance contains a value that other rows with the intent label nearly always (`known`);
- the utterance has the words of another row around its values, and something else in the place of
  a value (`shape`);
- nearly all calls of the intent have more values (`few`).
"""

import bisect
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from intent_core.language.calls import Call
from intent_core.language.utterances import normalise_utterance
from intent_core.quality.findings import (
    MAX_SLIPS,
    Corpus,
    FindingRow,
    RuleResult,
    is_slip,
    list_some,
    note,
)

_RARE = 3
_USUAL = 0.8
"""Share of calls with the same number of values that makes this number the usual one."""
_MOSTLY = 0.5
"""Share of the rows with a value in which it is labelled; below it, it is a word like others."""
_MIN_GLOBAL = 3
"""Shortest value, in characters, that is looked for in rows with other intents."""
_MIN_WORDS, _LONG_WORDS = 2.8, 5
"""Fewest words around the values of a shape, and as many that one other row is enough."""
_WORDS_A_CHARACTER = 0.7
_MAX_SHAPES = 200
"""Shapes of an intent that are compared; beyond them the rows differ too much."""
_LONGEST_ASCII, _LONGEST = 40, 12
# A reference to something said before, or more than one phrase, is not a value.
_NO_VALUE = re.compile(
    r"[,。.?!，？！、;；:：]|[这那它他她这這該该]|\b(?:this|that|it|these|those)\b"
)
_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")
_SLOT = "\0"


class _Masked(NamedTuple):
    text: str
    values: frozenset[str]
    intents: tuple[str, ...]


class _Missing(NamedTuple):
    row: int
    intent: str
    reason: str
    value: str


def check_missing_values(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the finding about utterances with a value that their label does not have.

    Args:
        corpus: the input of the data check.
    """
    rows = [
        _Masked(normalise_utterance(utterance), _list_values(calls), tuple(sorted(_intents(calls))))
        for utterance, calls in zip(corpus.utterances, corpus.labels, strict=True)
    ]
    places = _locate(rows, {value for row in rows for value in row.values})
    first: dict[int, _Missing] = {}
    for missing in (
        *_find_few(corpus.labels),
        *_find_known(rows, corpus.labels, places),
        *_find_shapes(rows, places),
    ):
        first.setdefault(missing.row, missing)
    if not first:
        return
    behind = [_describe(corpus, first[row]) for row in sorted(first)]
    listed = list_some(_show(row) for row in behind[:3])
    yield note(
        "missing-values",
        f"{len(behind)} label(s) probably lack a value, e.g. {listed}",
        "Check these labels, and add the value if the utterance has it.",
        behind,
        num_utterances=len(behind),
    )


def _describe(corpus: Corpus, missing: _Missing) -> FindingRow:
    value = {"value": missing.value} if missing.value else {}
    return corpus.describe(missing.row, intent=missing.intent, reason=missing.reason, **value)


def _show(row: FindingRow) -> str:
    if "value" in row:
        return f"{row['value']!r} in {row['utterance']!r}"
    return f"{row['utterance']!r}: most calls of {row['intent']} have more values"


def _list_values(calls: Iterable[Call]) -> frozenset[str]:
    values = (normalise_utterance(a.value) for call in calls for a in call.arguments)
    return frozenset(value for value in values if value)


def _intents(calls: Iterable[Call]) -> list[str]:
    return [call.intent for call in calls]


def _find_few(labels: Sequence[Sequence[Call]]) -> Iterator[_Missing]:
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for calls in labels:
        for call in calls:
            counts[call.intent][len(call.arguments)] += 1
    few = {intent: _most_few(counts[intent]) for intent in counts}
    for row, calls in enumerate(labels):
        for call in calls:
            if len(call.arguments) <= few[call.intent]:
                yield _Missing(row, call.intent, "few", "")


def _most_few(counts: Counter[int]) -> int:
    """Return the largest number of values that is too few for an intent; -1 if none is."""
    total = counts.total()
    ((usual, num_usual),) = counts.most_common(1)
    most, num_fewer = -1, 0
    for number in sorted(counts):
        num_fewer += counts[number]
        is_rare = num_fewer < _RARE <= total - num_fewer
        is_unusual = number < usual and num_usual >= _USUAL * total
        if not is_rare and not (is_unusual and num_fewer <= MAX_SLIPS * total):
            break
        most = number
    return most


def _find_known(
    rows: Sequence[_Masked],
    labels: Sequence[Sequence[Call]],
    places: Mapping[str, Sequence[int]],
) -> Iterator[_Missing]:
    labelled: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with_values: set[str] = set()
    for calls in labels:
        for call in calls:
            with_values |= {call.intent} if call.arguments else set()
            for value in _list_values([call]):
                labelled[value][call.intent] += 1
    for value, at in places.items():
        if labelled[value].total() < 2 or len(value) < 2:
            continue
        without = [
            row for row in at if not any(value in its or its in value for its in rows[row].values)
        ]
        is_global = len(value) >= _MIN_GLOBAL and is_slip(len(without), len(at))
        num_places = Counter(i for row in at for i in set(rows[row].intents))
        num_without = Counter(i for row in without for i in set(rows[row].intents))
        for row in without:
            for intent in rows[row].intents:
                is_rare = is_slip(num_without[intent], num_places[intent])
                is_known = labelled[value][intent] > 1 and is_rare
                if is_known or (is_global and intent in with_values):
                    yield _Missing(row, intent, "known", value)


def _locate(rows: Sequence[_Masked], values: Iterable[str]) -> dict[str, list[int]]:
    """Return the rows that contain each value as words, by value."""
    known = set(values)
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for value in known:
        lengths[_get_start(value, _WORD.match(value))].add(len(value))
    ordered = {start: sorted(some) for start, some in lengths.items()}
    places: defaultdict[str, dict[int, None]] = defaultdict(dict)
    for row, (text, _, _) in enumerate(rows):
        for word in _WORD.finditer(text):
            start = word.start()
            for length in ordered.get(_get_start(text, word), ()):
                value = text[start : start + length]
                if value in known and is_whole(text, start, start + length):
                    places[value][row] = None
    return {value: list(at) for value, at in places.items()}


def _get_start(text: str, word: re.Match[str] | None) -> str:
    """Return the word that a value starts with; of a short one, also the character after it."""
    start, end = word.span() if word else (0, 0)
    return text[start : max(end, start + 2)]


def is_whole(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text does not begin or end within a word or number of ASCII.

    Args:
        text: the text.
        start: index of the part's first character.
        end: index after its last character.
    """
    return not _joins(text, start - 1) and not _joins(text, end - 1)


def _joins(text: str, index: int) -> bool:
    """Return whether the characters at an index and after it belong to one word."""
    pair = text[max(index, 0) : index + 2] if index >= 0 else ""
    return len(pair) == 2 and pair.isascii() and pair.isalnum()


def _find_shapes(
    rows: Sequence[_Masked], places: Mapping[str, Sequence[int]]
) -> Iterator[_Missing]:
    known = {
        value
        for value, at in places.items()
        if sum(value in rows[row].values for row in at) >= _MOSTLY * len(at)
    }
    by_intents: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_intents[row.intents].append(number)
    for intents, numbers in by_intents.items():
        masked = {number: _mask(rows[number]) for number in numbers}
        num_slots = {number: text.count(_SLOT) for number, text in masked.items()}
        numbers.sort(key=lambda number: rows[number].text)
        shapes = Counter(filter(_is_distinct, masked.values()))
        for shape, num_rows in shapes.most_common(_MAX_SHAPES):
            alike = _list_alike(shape, rows, numbers)
            fewer = [number for number in alike if num_slots[number] < shape.count(_SLOT)]
            for number, match in _match(shape, rows, fewer):
                value = _pick_missing(match, rows[number], known, shape, num_rows)
                if value in known or (value and _is_rare(value, rows)):
                    yield _Missing(number, intents[0], "shape", value)


def _list_alike(shape: str, rows: Sequence[_Masked], ordered: Sequence[int]) -> Iterator[int]:
    """Yield the rows, ordered by text, that have the first and last words of a shape."""
    head, *_, tail = shape.split(_SLOT)
    place = bisect.bisect_left(ordered, head, key=lambda number: rows[number].text)
    for number in itertools.islice(ordered, place, None):
        text = rows[number].text
        if not text.startswith(head):
            return
        if text.endswith(tail):
            yield number


def _match(
    shape: str, rows: Sequence[_Masked], numbers: Sequence[int]
) -> Iterator[tuple[int, re.Match[str]]]:
    # Most shapes have no other row with their first and last words: nothing is compiled for them.
    if numbers:
        pattern = re.compile("(.+?)".join(map(re.escape, shape.split(_SLOT))))
        for number in numbers:
            if match := pattern.fullmatch(rows[number].text):
                yield number, match


def _pick_missing(
    match: re.Match[str], row: _Masked, known: set[str], shape: str, num_rows: int
) -> str:
    """Return the part in the place of a value that is probably one; "" without one."""
    parts = [
        part
        for part in match.groups()
        if not any(part in value or value in part for value in row.values)
    ]
    for part in parts:
        if part in known:
            return part
    is_usual = num_rows >= _RARE and shape.count(_SLOT) > 1
    if not is_usual and _count_words(shape) < _LONG_WORDS:
        return ""
    return next((part for part in parts if _may_be_value(part)), "")


def _is_rare(part: str, rows: Iterable[_Masked]) -> bool:
    """Return whether few utterances have a part; a word of many is not a value."""
    return sum(part in row.text for row in rows) < _RARE


def _may_be_value(part: str) -> bool:
    longest = _LONGEST_ASCII if part.isascii() else _LONGEST
    return len(part) <= longest and not _NO_VALUE.search(part)


def _mask(row: _Masked) -> str:
    # Longest first, because a value can contain another one.
    text = row.text
    for value in sorted(row.values, key=lambda its: (-len(its), its)):
        text = text.replace(value, _SLOT)
    return text


def _is_distinct(shape: str) -> bool:
    """Return whether a shape has values, words between them, and enough words."""
    parts = shape.split(_SLOT)
    has_words = all(part.strip() for part in parts[1:-1])
    return len(parts) > 1 and has_words and _count_words(shape) >= _MIN_WORDS


def _count_words(shape: str) -> float:
    words = shape.replace(_SLOT, " ")
    if words.isascii():
        return len(words.split())
    return _WORDS_A_CHARACTER * len("".join(words.split()))
