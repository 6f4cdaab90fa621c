"""Near-duplicate utterances: every pair that shares most of its character bigrams and trigrams.

Two texts are as similar as the Jaccard index of their sets of bigrams and trigrams, each text
taken with one blank before and after it: the shared grams over all grams of the two. Trigrams
alone lose three of a short Chinese text's few grams for one character changed; bigrams alone
know no order. Together they serve both languages, and even the empty text has a gram.

The search is exact and yet compares few pairs. With the grams of a text written rarest first,
texts that share at least `a` grams share `s` of them within their first `size - a + s` ones
(prefix filter), and a text is never similar to one much longer (length filter). One sparse
matrix product over the prefixes counts the shared grams; pairs with enough are then compared.
Time and memory grow with the pairs found.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from intent_core.errors import ConfigError

MAX_PAIRS = 20_000_000
"""About a minute's work; an export of one template would take days."""

# More shared grams asked of longer prefixes: a dearer product, far fewer pairs to compare.
_SHARED_IN_PREFIX = 8
_ROWS_AT_ONCE = 250
_PAIRS_AT_ONCE = 20_000
# Code points plus one need 21 bits, so three of them fit an integer of 64.
_CHARACTER_BITS = 21
# A bound may be too low by a rounding error, never too high.
_ROUNDING = 1e-9

_Indices = npt.NDArray[np.int64]
_Grams: TypeAlias = "scipy.sparse.csr_array"


class NearDuplicate(NamedTuple):
    """Two texts by their places, `first < second`, and their similarity in (0, 1]."""

    first: int
    second: int
    similarity: float


class Pairs(NamedTuple):
    """Some near-duplicates, column by column; `first < second`."""

    first: _Indices
    second: _Indices
    similarity: npt.NDArray[np.float64]


def find_near_duplicates(texts: Sequence[str], similarity: float) -> list[NearDuplicate]:
    """All pairs at least so similar, in order of place; identical texts have similarity 1.

    `ConfigError` when `similarity` is not above 0 and at most 1.
    """
    pairs = _find_pairs(texts, similarity)
    columns = (column.tolist() for column in pairs)
    return [NearDuplicate(*pair) for pair in zip(*columns, strict=True)]


def keep_distinct(texts: Sequence[str], similarity: float) -> list[int]:
    """Places of the texts that are no near-duplicate of a kept text before them.

    `ConfigError` when `similarity` is not above 0 and at most 1.
    """
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, place)
    pairs = _find_pairs(list(places), similarity)
    kept = [True] * len(places)
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        # Pairs come by `first`: whether it is kept is settled by now.
        if kept[first]:
            kept[second] = False
    return [place for place, keep in zip(places.values(), kept, strict=True) if keep]


def iter_near_duplicates(texts: Sequence[str], similarity: float) -> Iterator[Pairs]:
    """All pairs at least so similar, some at a time and in no order.

    `ConfigError` when `similarity` is not above 0 and at most 1, or when there are so many pairs
    that nobody can want them: texts made of one template are all alike.
    """
    if not 0 < similarity <= 1:
        raise ConfigError(f"similarity {similarity} is not above 0 and at most 1: try 0.8")
    if len(texts) < 2:
        return
    grams = _gram_sets(texts)
    by_size = np.argsort(np.diff(grams.indptr), kind="stable")
    num_pairs = 0
    for pairs in _join(grams[by_size], similarity):
        num_pairs += len(pairs.first)
        if num_pairs > MAX_PAIRS:
            raise ConfigError(
                f"more than {MAX_PAIRS} pairs of {len(texts)} utterances are near-duplicates: they "
                "are made of few templates; raise data.near_duplicate_similarity (1: only equal "
                "utterances count)"
            )
        first, second = by_size[pairs.first], by_size[pairs.second]
        yield Pairs(np.minimum(first, second), np.maximum(first, second), pairs.similarity)


def _find_pairs(texts: Sequence[str], similarity: float) -> Pairs:
    pairs = list(iter_near_duplicates(texts, similarity))
    if not pairs:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing, nothing, np.zeros(0))
    first, second, measured = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], measured[order])


def _gram_sets(texts: Sequence[str]) -> _Grams:
    """One row a text, one column a gram, rarest first; 1 where the text has the gram."""
    padded = [f" {text} " for text in texts]
    encoded = "".join(padded).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype="<u4").astype(np.int64) + 1
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    bigrams = codes[:-1] << _CHARACTER_BITS | codes[1:]
    trigrams = bigrams[:-1] << _CHARACTER_BITS | codes[2:]
    # A gram that begins in one text and ends in the next belongs to neither.
    within_two, within_three = owners[:-1] == owners[1:], owners[:-2] == owners[2:]
    grams = np.concatenate([bigrams[within_two], trigrams[within_three]])
    owners = np.concatenate([owners[:-1][within_two], owners[:-2][within_three]])
    _, number, occurrences = np.unique(grams, return_inverse=True, return_counts=True)
    num_grams = len(occurrences)
    rank = np.empty(num_grams, np.int64)
    rank[np.argsort(occurrences, kind="stable")] = np.arange(num_grams)
    cells = np.unique(owners * num_grams + rank[number])
    rows, columns = np.divmod(cells, num_grams)
    return _to_matrix(rows, columns, (len(texts), num_grams))


def _join(grams: _Grams, similarity: float) -> Iterator[Pairs]:
    """Similar rows of a matrix whose rows go by size; each row is held against smaller ones."""
    sizes = np.diff(grams.indptr).astype(np.int64)
    least = np.ceil(similarity * sizes - _ROUNDING).astype(np.int64)
    # The smaller of two sets can be missing fewer grams: its prefix is the shorter one.
    least_as_smaller = np.ceil(2 * similarity / (1 + similarity) * sizes - _ROUNDING)
    probes = _prefixes(grams, sizes - least + _SHARED_IN_PREFIX)
    index = _prefixes(grams, sizes - least_as_smaller.astype(np.int64) + _SHARED_IN_PREFIX)
    for start in range(0, len(sizes), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(sizes))
        low = int(np.searchsorted(sizes, least[start]))
        shared = (probes[start:stop] @ index[low:stop].T).tocoo()
        larger, smaller = shared.row + start, shared.col + low
        near = (smaller < larger) & (sizes[smaller] >= least[larger])
        near &= shared.data >= np.minimum(_SHARED_IN_PREFIX, least[larger])
        yield from _compare(grams, larger[near], smaller[near], similarity)


def _compare(
    grams: _Grams, larger: _Indices, smaller: _Indices, similarity: float
) -> Iterator[Pairs]:
    sizes = np.diff(grams.indptr).astype(np.int64)
    for start in range(0, len(larger), _PAIRS_AT_ONCE):
        first, second = (rows[start : start + _PAIRS_AT_ONCE] for rows in (larger, smaller))
        shared = grams[first].multiply(grams[second]).sum(axis=1)
        measured = shared / (sizes[first] + sizes[second] - shared)
        similar = measured >= similarity
        yield Pairs(first[similar], second[similar], measured[similar])


def _prefixes(grams: _Grams, lengths: _Indices) -> _Grams:
    rows = np.repeat(np.arange(grams.shape[0]), np.diff(grams.indptr))
    inside = np.arange(grams.nnz) - grams.indptr[rows] < lengths[rows]
    return _to_matrix(rows[inside], grams.indices[inside], grams.shape)


def _to_matrix(rows: _Indices, columns: _Indices, shape: tuple[int, int]) -> _Grams:
    ends = np.cumsum(np.bincount(rows, minlength=shape[0]))
    starts = np.concatenate([[0], ends])
    return scipy.sparse.csr_array((np.ones(len(rows), np.int32), columns, starts), shape=shape)
