"""Rules of the data check for names that look alike: intents, and the values of an intent."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from intent_core.language.utterances import fold_letters, normalise_utterance
from intent_core.quality.findings import Corpus, RuleResult, list_some, warn

_MIN_TIMES = 5
"""A name must be this many times as frequent as one that only looks like it."""
_MIN_FREQUENT = 3
_ONE_SLIP, _TWO_SLIPS = 5, 8
"""Shortest names that may differ by one slip and by two."""
_MIN_HAN = 2
"""Shortest Chinese value that may have one character more or less."""
_PREFIX = re.compile(r"^\s*\w+\s*[:：]\s*")
_HAN = re.compile(r"[\u3400-\u9fff]+")
_NEGATIONS = "不非无無没沒未免"
# Characters that make another word for the same kind.
_HAN_ENDS = "型类類式级級款的"


class AlikeNames(NamedTuple):
    name: str
    likely: str
    times: int
    likely_times: int


def check_spellings(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the findings about intents and values that look like another one.

    Args:
        corpus: the input of the data check.
    """
    yield from _check_intents(corpus)
    yield from _check_values(corpus)


def _check_intents(corpus: Corpus) -> Iterable[RuleResult]:
    counts = Counter(call.intent for calls in corpus.labels for call in calls)
    pairs = {pair.name: pair for pair in find_alike(counts)}
    rows = [
        corpus.describe(row, intent=call.intent, likely=pairs[call.intent].likely)
        for row, calls in enumerate(corpus.labels)
        for call in calls
        if call.intent in pairs
    ]
    if pairs:
        by_likely: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for pair in pairs.values():
            by_likely[pair.likely, pair.likely_times].append(pair.name)
        listed = "; ".join(
            f"{list_some(names)} look like {likely} ({times})"
            for (likely, times), names in by_likely.items()
        )
        yield warn(
            "look-alike-intents",
            f"{len(pairs)} intent(s) may be another one, spelt otherwise: {listed}",
            "Correct the spelling in these rows, or name the intents more differently.",
            rows,
            num_intents=len(pairs),
        )


def _check_values(corpus: Corpus) -> Iterable[RuleResult]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    literal: set[tuple[str, str]] = set()
    for utterance, calls in zip(corpus.utterances, corpus.labels, strict=True):
        for call in calls:
            counts[call.intent].update(a.value for a in call.arguments)
            literal |= {(call.intent, a.value) for a in call.arguments if a.value in utterance}
    pairs = {
        (intent, pair.name): pair
        for intent, by_value in counts.items()
        for pair in find_alike(by_value, are_values=True)
        # Who writes a value in capitals, or in two words, is labelled in these.
        if (intent, pair.name) not in literal or not _are_equal(pair)
    }
    rows = [
        corpus.describe(row, intent=call.intent, value=a.value, likely=pair.likely)
        for row, calls in enumerate(corpus.labels)
        for call in calls
        for a in call.arguments
        if (pair := pairs.get((call.intent, a.value)))
    ]
    if rows:
        listed = list_some(
            f"{pair.name!r} ({pair.times}) and {pair.likely!r} ({pair.likely_times}) of {intent}"
            for (intent, _), pair in sorted(pairs.items(), key=lambda item: -item[1].likely_times)
        )
        yield warn(
            "value-spellings",
            f"{len(pairs)} value(s) may be another spelling of a more frequent one: {listed}",
            "Use one spelling in all labels, unless the utterances have both.",
            rows,
            num_values=len(pairs),
        )


def find_alike(counts: Mapping[str, int], *, are_values: bool = False) -> Iterator[AlikeNames]:
    """Yield names that are probably another, more frequent name.

    Args:
        counts: the number of uses of each name.
        are_values: the names are values, of which many are rare: only short differences count.
    """
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    folded: dict[str, str] = {}
    frequent: dict[str, list[str]] = defaultdict(list)
    for name in ordered:
        key = fold_name(name, are_values=are_values)
        likely = folded.setdefault(key, name)
        if likely == name:
            likely = _find_slip(name, key, counts, frequent, are_values)
        if likely != name:
            yield AlikeNames(name, likely, counts[name], counts[likely])
        elif counts[name] >= _MIN_FREQUENT:
            for part in _list_deletions(key, are_values):
                frequent[part].append(name)


def fold_name(name: str, *, are_values: bool = False) -> str:
    """Return a name without differences in width, case, separators and a title before a colon.

    Args:
        name: an intent or a value.
        are_values: it is a value: a title stays, and so do the signs of numbers.
    """
    text = normalise_utterance(name)
    if are_values and any(character.isdecimal() for character in text):
        return text.replace(" ", "")
    return fold_letters(text if are_values else _PREFIX.sub("", text))


def _are_equal(pair: AlikeNames) -> bool:
    names = pair.name, pair.likely
    return len({fold_name(name, are_values=True) for name in names}) == 1


def _find_slip(
    name: str,
    key: str,
    counts: Mapping[str, int],
    frequent: Mapping[str, list[str]],
    are_values: bool,
) -> str:
    """Return the frequent name that differs from a rare one by a slip; the name itself if none."""
    candidates = dict.fromkeys(
        other for part in _list_deletions(key, are_values) for other in frequent.get(part, ())
    )
    for other in candidates:
        other_key = fold_name(other, are_values=are_values)
        if _has_end(key, other_key):
            return other
        if counts[other] >= _MIN_TIMES * counts[name] and _is_slip(key, other_key, are_values):
            return other
    return name


def _list_deletions(key: str, are_values: bool) -> set[str]:
    """Return a key, and it without any one or two of its characters; equal parts mean a slip."""
    parts = {key} | {key[:i] + key[i + 1 :] for i in range(len(key))}
    if are_values or len(key) < _TWO_SLIPS:
        return parts
    return parts | {part[:i] + part[i + 1 :] for part in parts for i in range(len(part))}


def _has_end(key: str, other: str) -> bool:
    """Return whether one Chinese value is the other and a character that names its kind."""
    shorter, longer = sorted((key, other), key=len)
    is_longer = len(longer) == len(shorter) + 1 and len(shorter) >= _MIN_HAN
    return is_longer and longer.startswith(shorter) and longer[-1] in _HAN_ENDS


def _is_slip(key: str, other: str, are_values: bool) -> bool:
    if _digits(key) != _digits(other):
        return False
    distance = count_slips(key, other)
    length = min(len(key), len(other))
    if _HAN.fullmatch(key) and _HAN.fullmatch(other):
        # One character exchanged makes another word in Chinese, but rarely one more or less.
        shorter, longer = sorted((key, other), key=len)
        is_longer = len(longer) > length >= _MIN_HAN
        return distance == 1 and is_longer and not (set(longer) - set(shorter)) & set(_NEGATIONS)
    if distance == 1:
        # A plural is a word of the utterance, not a slip.
        is_plural = are_values and {key, other} in ({key, key + "s"}, {other, other + "s"})
        return length >= _ONE_SLIP and not is_plural
    return distance == 2 and length >= _TWO_SLIPS and not are_values


def _digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


def count_slips(first: str, second: str) -> int:
    """Return the number of insertions, deletions, substitutions and swaps between two texts.

    Args:
        first: a text.
        second: another text.

    Source: the optimal string alignment distance (Damerau, 1964; Levenshtein, 1966).
    """
    before, above = [0] * (len(second) + 1), list(range(len(second) + 1))
    for i, mine in enumerate(first, 1):
        row = [i]
        for j, theirs in enumerate(second, 1):
            cost = min(above[j] + 1, row[-1] + 1, above[j - 1] + (mine != theirs))
            if i > 1 and j > 1 and mine == second[j - 2] and theirs == first[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
