"""Confidence intervals of rates, and paired tests of two models on the same examples.

Utterances of one dialogue or one caller are not independent trials. If `groups` are given (one
name per utterance; None or empty means that all are independent), the statistics are computed over
groups. The effective sample size of a rate follows Korn and Graubard (1998): the number of
utterances divided by the design effect (variance between groups over the variance of independent
utterances, at least 1), and reduced further if there are few groups (Student's quantiles). If all
outcomes are equal, the design effect cannot be estimated and is set to 1.

Bootstraps and permutations use fixed seeds, so equal outcomes give equal numbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy

from intent_core.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Groups = Sequence[str] | IntArray | None
SlotCounts = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""Hits, slots expected and slots found; one number per utterance in each."""
Interval = tuple[float, float]

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000
NUM_FLIPS = 10_000
MOST_GROUPS_ENUMERATED = 12
_MOST_CELLS = 4_000_000
"""Numbers drawn at a time, which limits the memory of a bootstrap."""


def wilson_interval(successes: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the Wilson score interval of a rate; (0, 1) if `total` is 0.

    Args:
        successes: number of successes.
        total: number of trials.
        confidence: probability that the interval contains the rate.

    Raises:
        DataError: there are more successes than trials, or a number is negative.

    Source: Wilson (1927).
    """
    return _wilson(successes, total, confidence)


def clustered_interval(outcomes: npt.ArrayLike, groups: Groups = None) -> Interval:
    """Return the 95 % Wilson interval of the rate of outcomes (1 or 0) at their effective size."""
    values = np.asarray(outcomes, dtype=np.float64)
    if not len(values):
        return 0.0, 1.0
    size = _effective_size(values, number_groups(groups, len(values)))
    return _wilson(float(values.mean()) * size, size, CONFIDENCE)


def f1_interval(
    hits: npt.ArrayLike, expected: npt.ArrayLike, answered: npt.ArrayLike, groups: Groups = None
) -> Interval:
    """Return the 95 % percentile bootstrap interval of micro F1 over utterances or groups.

    If all utterances have the same counts, the interval is a single point.
    """
    scores = np.concatenate([_f1(sums) for sums in _resample((hits, expected, answered), groups)])
    return _percentiles(scores)


def paired_difference_interval(
    candidate: npt.ArrayLike, champion: npt.ArrayLike, groups: Groups = None
) -> tuple[float, float, float]:
    """Return the rate difference, candidate - champion, and its 95 % interval.

    Both arguments contain 1 or 0 for each of the same examples. The interval is Bonett and Price's
    adjusted Wald interval for paired rates (2012) at the effective sample size; it has a width
    even if the two models agree on every example.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(champion, dtype=np.float64)
    total = len(differences)
    if not total:
        return 0.0, -1.0, 1.0
    size = _effective_size(differences, number_groups(groups, total))
    gained = (size * float(np.mean(differences > 0)) + 1) / (size + 2)
    lost = (size * float(np.mean(differences < 0)) + 1) / (size + 2)
    centre = gained - lost
    half = _quantile() * float(np.sqrt((gained + lost - centre**2) / (size + 2)))
    return float(differences.mean()), max(-1.0, centre - half), min(1.0, centre + half)


def paired_f1_difference(
    candidate: SlotCounts, champion: SlotCounts, groups: Groups = None
) -> tuple[float, float, float]:
    """Return the micro F1 difference, candidate - champion, and its 95 % bootstrap interval.

    Each resample draws the counts of both models for an utterance (or group) together.
    """
    columns = (*candidate, *champion)
    sums = np.array([[np.sum(column) for column in columns]], dtype=np.int64)
    difference = _f1(sums[:, :3]) - _f1(sums[:, 3:])
    drawn = [_f1(sums[:, :3]) - _f1(sums[:, 3:]) for sums in _resample(columns, groups)]
    return float(difference[0]), *_percentiles(np.concatenate(drawn))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact two-sided McNemar test.

    The arguments count the examples that only the first or only the second model got right.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(scipy.stats.binomtest(only_first, discordant, 0.5).pvalue)


def sign_flip_p_value(differences: npt.ArrayLike) -> float:
    """Return the p-value of the two-sided sign-flip permutation test over groups.

    `differences` has one number per group: how many more of its utterances one model got right
    than the other. Under the null hypothesis each sign is equally likely. All combinations of
    signs are enumerated for up to `MOST_GROUPS_ENUMERATED` groups that differ; beyond that,
    `NUM_FLIPS` random combinations are drawn.
    """
    given = np.asarray(differences, dtype=np.float64)
    sizes = np.abs(given[given != 0])
    if not len(sizes):
        return 1.0
    # Tolerance: a sum equal to the observed one must count in spite of rounding errors.
    observed = abs(float(given.sum())) - 1e-9 * float(sizes.sum())
    if len(sizes) <= MOST_GROUPS_ENUMERATED:
        signs = (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes))) & 1
        return float(np.mean(np.abs((2 * signs - 1) @ sizes) >= observed))
    # Groups with equal differences are drawn together, as the binomial number of plus signs.
    steps, counts = np.unique(sizes, return_counts=True)
    generator = np.random.default_rng(0)
    sums = np.zeros(NUM_FLIPS)
    for step, count in zip(steps, counts, strict=True):
        sums += step * (2 * generator.binomial(count, 0.5, size=NUM_FLIPS) - count)
    return float((np.sum(np.abs(sums) >= observed) + 1) / (NUM_FLIPS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, which control the family-wise error rate.

    Args:
        p_values: p-values of the tests, 0 to 1; the result is in the same order.

    Source: Holm (1979).
    """
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests  # imports pandas, about a second

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def sum_by_group(values: npt.ArrayLike, groups: Groups) -> FloatArray:
    """Return the sum of each group, the input of `sign_flip_p_value`."""
    given: FloatArray = np.asarray(values, dtype=np.float64)
    codes = number_groups(groups, len(given))
    return given if codes is None else np.asarray(np.bincount(codes, weights=given), np.float64)


def number_groups(groups: Groups, total: int) -> IntArray | None:
    """Return the group of each utterance as a number, 0 to n - 1; None if there are no groups."""
    if groups is None or not len(groups):
        return None
    if len(groups) != total:
        raise DataError(f"{len(groups)} groups for {total} outcomes: expected one group each")
    if isinstance(groups, np.ndarray):
        return np.unique(groups, return_inverse=True)[1]
    numbers: dict[str, int] = {}
    coded = (numbers.setdefault(group, len(numbers)) for group in groups)
    return np.fromiter(coded, dtype=np.int64, count=total)


def _wilson(successes: float, total: float, confidence: float) -> Interval:
    if not 0 <= successes <= total * (1 + 1e-12):
        raise DataError(f"{successes} successes of {total}: expected 0 to {total}")
    if total == 0:
        return 0.0, 1.0
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, total, alpha=1 - confidence, method="wilson")
    # Rounding must not put the rate outside of its interval.
    rate = successes / total
    return min(float(low), rate), max(float(high), rate)


def _effective_size(values: FloatArray, codes: IntArray | None) -> float:
    """Return the number of independent utterances that would give the same precision."""
    total = len(values)
    num_groups = total if codes is None else int(codes.max()) + 1
    if codes is None or num_groups == total:
        return float(total)
    if num_groups == 1:
        return 1.0
    effect = 1.0
    if (variance := float(values.var()) / (total - 1)) > 0:
        residuals = np.bincount(codes, weights=values - values.mean())
        between = num_groups / (num_groups - 1) * float(residuals @ residuals) / total**2
        effect = max(1.0, between / variance)
    tail = (1 + CONFIDENCE) / 2
    few = float(scipy.stats.t.ppf(tail, total - 1) / scipy.stats.t.ppf(tail, num_groups - 1)) ** 2
    return total / effect * few


def _resample(columns: Sequence[npt.ArrayLike], groups: Groups) -> Iterator[IntArray]:
    """Yield bootstrap sums of the columns over groups, one row per resample.

    Groups with equal counts are drawn together as a multinomial. This is equivalent to drawing
    single groups with replacement, and needs far less time and memory.
    """
    rows = np.stack([np.asarray(column, dtype=np.int64) for column in columns], axis=1)
    codes = number_groups(groups, len(rows))
    if codes is not None:
        summed = [np.bincount(codes, weights=column) for column in rows.T]
        rows = np.stack(summed, axis=1).astype(np.int64)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    if not len(kinds):
        yield np.zeros((1, len(columns)), dtype=np.int64)
        return
    generator = np.random.default_rng(0)
    chunk = max(1, _MOST_CELLS // len(kinds))
    for start in range(0, NUM_RESAMPLES, chunk):
        size = min(chunk, NUM_RESAMPLES - start)
        yield generator.multinomial(len(rows), counts / len(rows), size=size) @ kinds


def _f1(sums: IntArray) -> FloatArray:
    """Return F1 of each row (hits, expected, found); 1 if no slot is expected and none found."""
    slots = sums[:, 1] + sums[:, 2]
    return np.where(slots == 0, 1.0, 2 * sums[:, 0] / np.maximum(slots, 1))


def _percentiles(drawn: FloatArray) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _quantile() -> float:
    return float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2))
