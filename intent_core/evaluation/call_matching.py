"""Matches the calls of an answer with the labelled calls.

Only calls of the same intent are matched: equal calls first, then so that the most slots are
right (`scipy` finds the optimal assignment). The remaining calls are paired in order of appearance
as wrong intents, missing calls and extra calls.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from intent_core.language.calls import Call

Slot = tuple[str, int | str, str]
"""(intent, position or name, value)"""
Pair = tuple[str | None, str | None]
"""(labelled intent, answered intent); None: there is no matching call."""


class Matching(NamedTuple):
    """The number of right slots in calls of the same intent, and the matched intents."""

    slot_hits: int
    pairs: tuple[Pair, ...]


def match_calls(gold: Sequence[Call], predicted: Sequence[Call]) -> Matching:
    """Match every call with at most one call of the other list."""
    theirs = _positions(predicted)
    slots_hit = 0
    pairs: list[Pair] = []
    unmatched, unmatched_answers = dict(enumerate(gold)), dict(enumerate(predicted))
    for intent, mine in _positions(gold).items():
        for hits, row, column in _assign(gold, mine, predicted, theirs.get(intent, [])):
            slots_hit += hits
            pairs.append((intent, intent))
            del unmatched[row], unmatched_answers[column]
    missed = [call.intent for call in unmatched.values()]
    extra = [call.intent for call in unmatched_answers.values()]
    pairs += zip(missed, extra, strict=False)
    pairs += [(intent, None) for intent in missed[len(extra) :]]
    pairs += [(None, intent) for intent in extra[len(missed) :]]
    return Matching(slots_hit, tuple(pairs))


def slots_of(call: Call) -> Counter[Slot]:
    """Return the slots of a call: unnamed arguments by position among the unnamed ones."""
    slots: Counter[Slot] = Counter()
    position = 0
    for argument in call.arguments:
        if argument.name is not None:
            slots[call.intent, argument.name, argument.value] += 1
        else:
            slots[call.intent, position, argument.value] += 1
            position += 1
    return slots


def _positions(calls: Sequence[Call]) -> dict[str, list[int]]:
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, call in enumerate(calls):
        positions[call.intent].append(position)
    return positions


def _assign(
    gold: Sequence[Call], mine: list[int], predicted: Sequence[Call], theirs: list[int]
) -> list[tuple[int, int, int]]:
    """Return (common slots, index in gold, index in predicted) for calls of one intent."""
    wanted = [slots_of(gold[row]) for row in mine]
    given = [slots_of(predicted[column]) for column in theirs]
    if len(mine) == len(theirs) == 1:
        return [((wanted[0] & given[0]).total(), mine[0], theirs[0])]
    if not theirs:
        return []
    common = np.array([[(w & g).total() for g in given] for w in wanted])
    equal = np.array([[w == g for g in given] for w in wanted])
    # One more equal call must outweigh all slots together.
    weights = common + equal * (1 + common.sum())
    rows, columns = scipy.optimize.linear_sum_assignment(weights, maximize=True)
    return [
        (int(common[row, column]), mine[row], theirs[column])
        for row, column in zip(rows, columns, strict=True)
    ]
