"""Near-duplicate utterances: pairs that share most of their character bigrams and trigrams.

The similarity of two texts is the Jaccard index of their sets of bigrams and trigrams: the number
of shared grams divided by the number of all grams of both. Each text is padded with one space on
both sides, so even the empty text has a gram. Trigrams alone are too strict for short Chinese
texts, where one changed character removes three of few grams; bigrams alone ignore word order.
Together they work for both languages. In a short Chinese text `请` or `吧` is a large part of the
grams, so such words are taken off first (`polite_words.py`).

The search is exact but compares few pairs. Sort the grams of each text from rare to frequent: two
texts that share at least `a` grams share `s` of them within their first `size - a + s` grams
(prefix filter). Texts of very different length are never similar (length filter). One sparse
matrix product over the prefixes counts the shared grams; only pairs with enough of them are
compared. Time and memory grow with the number of pairs found.

Background on the prefix filter: Chaudhuri et al. (2006) for one shared gram, Wang et al. (2012)
for several.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from intent_core.errors import ConfigError
from intent_core.language.polite_words import strip_polite_words

MAX_PAIRS = 20_000_000
"""About one minute of work. An export made from one template has many more pairs."""

# A larger number means longer prefixes: a slower matrix product, but far fewer pairs to compare.
_SHARED_IN_PREFIX = 8
_ROWS_AT_ONCE = 250
_PAIRS_AT_ONCE = 20_000
# A code point plus one needs 21 bits, so three of them fit into a 64-bit integer.
_CHARACTER_BITS = 21
# Rounding must never raise a lower bound, or a pair would be missed.
_ROUNDING = 1e-9

_Indices = npt.NDArray[np.int64]
_Grams: TypeAlias = "scipy.sparse.csr_array"


class NearDuplicate(NamedTuple):
    """Indices of two texts, `first < second`, and their similarity in (0, 1]."""

    first: int
    second: int
    similarity: float


class Pairs(NamedTuple):
    """Near-duplicates as columns, each of shape (pairs,); `first < second`."""

    first: _Indices
    second: _Indices
    similarity: npt.NDArray[np.float64]


def find_near_duplicates(texts: Sequence[str], similarity: float) -> list[NearDuplicate]:
    """Return all near-duplicate pairs, sorted by index.

    Identical texts, and those that differ only in polite words, have similarity 1.

    Args:
        texts: the texts.
        similarity: smallest similarity of a pair, in (0, 1].

    Raises:
        ConfigError: `similarity` is out of range, or there are more than `MAX_PAIRS` pairs.
    """
    pairs = _find_pairs(texts, similarity)
    columns = (column.tolist() for column in pairs)
    return [NearDuplicate(*pair) for pair in zip(*columns, strict=True)]


def keep_distinct(texts: Sequence[str], similarity: float) -> list[int]:
    """Return the indices of the texts that are not near-duplicates of an earlier kept text.

    Args:
        texts: the texts.
        similarity: smallest similarity of a near-duplicate, in (0, 1].

    Raises:
        ConfigError: `similarity` is out of range, or there are more than `MAX_PAIRS` pairs.
    """
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, place)
    pairs = _find_pairs(list(places), similarity)
    kept = [True] * len(places)
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        # Pairs are sorted by `first`, so `kept[first]` is final here.
        if kept[first]:
            kept[second] = False
    return [place for place, keep in zip(places.values(), kept, strict=True) if keep]


def iter_near_duplicates(texts: Sequence[str], similarity: float) -> Iterator[Pairs]:
    """Yield all near-duplicate pairs in batches, in no particular order.

    Args:
        texts: the texts.
        similarity: smallest similarity of a pair, in (0, 1].

    Raises:
        ConfigError: `similarity` is out of range, or there are more than `MAX_PAIRS` pairs, as
            in texts made from one template.
    """
    if not 0 < similarity <= 1:
        raise ConfigError(
            f"similarity is {similarity}, but must be greater than 0 and at most 1; e.g. 0.8"
        )
    if len(texts) < 2:
        return
    grams = _gram_sets([strip_polite_words(text) for text in texts])
    by_size = np.argsort(np.diff(grams.indptr), kind="stable")
    num_pairs = 0
    for pairs in _join(grams[by_size], similarity):
        num_pairs += len(pairs.first)
        if num_pairs > MAX_PAIRS:
            raise ConfigError(
                f"{len(texts)} utterances have more than {MAX_PAIRS} pairs of near-duplicates, "
                "usually because they were made from few templates. Raise "
                "data.near_duplicate_similarity (1 compares only for equality)"
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
    """Return a matrix of shape (texts, grams), grams from rare to frequent; 1 = has the gram."""
    padded = [f" {text} " for text in texts]
    encoded = "".join(padded).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype="<u4").astype(np.int64) + 1
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    bigrams = codes[:-1] << _CHARACTER_BITS | codes[1:]
    trigrams = bigrams[:-1] << _CHARACTER_BITS | codes[2:]
    # Drop grams that start in one text and end in the next.
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
    """Find similar rows of a matrix sorted by row size; each row is compared with smaller ones."""
    sizes = np.diff(grams.indptr).astype(np.int64)
    least = np.ceil(similarity * sizes - _ROUNDING).astype(np.int64)
    # The smaller of two similar sets can miss fewer grams, so its prefix is shorter.
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
