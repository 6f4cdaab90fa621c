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
_ROWS_TO_TURN = 4_000
_PAIRS_AT_ONCE = 10_000
_TEXTS_AT_ONCE = 4_000
# A code point plus one needs 21 bits, so three of them fit into a 64-bit integer.
_CHARACTER_BITS = np.uint64(21)
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
    grams, by_size = _gram_sets(texts)
    num_pairs = 0
    for pairs in _join(grams, similarity):
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


class TermCounts:
    """The distinct terms of texts that are read part by part, with sums for each term."""

    def __init__(self) -> None:
        self._terms: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._sums: tuple[_Indices, ...] = ()
        self._parts: list[tuple[npt.NDArray[np.uint64], tuple[_Indices, ...]]] = []

    def add(self, terms: npt.NDArray[np.uint64], *numbers: _Indices) -> None:
        """Add numbers of some terms.

        Args:
            terms: distinct terms in ascending order.
            *numbers: one column for each sum.
        """
        self._parts.append((terms, numbers))
        # Rarely, because all terms are sorted each time.
        if sum(len(its) for its, _ in self._parts) > len(self._terms):
            self.sum_up()

    def sum_up(self) -> tuple[npt.NDArray[np.uint64], tuple[_Indices, ...]]:
        """Return all terms in ascending order, and a column for each sum."""
        parts = [(self._terms, self._sums), *self._parts] if self._sums else self._parts
        self._parts = []
        if len(parts) == 1:
            ((self._terms, self._sums),) = parts
        elif parts:
            terms, places = np.unique(
                np.concatenate([its for its, _ in parts]), return_inverse=True
            )
            columns = zip(*(numbers for _, numbers in parts), strict=True)
            self._sums = tuple(
                np.bincount(places, np.concatenate(column)).astype(np.int64) for column in columns
            )
            self._terms = terms
        return self._terms, self._sums


class _PartGrams(NamedTuple):
    """The gram sets of some texts."""

    terms: npt.NDArray[np.uint64]
    """The grams of these texts in ascending order."""
    columns: npt.NDArray[np.int32]
    """The grams of each text, as places in `terms`."""
    sizes: _Indices
    """The number of grams of each text."""


def _gram_sets(texts: Sequence[str]) -> tuple[_Grams, _Indices]:
    """Return which text has which gram, and the index of each row's text.

    The rows are in the order of their number of grams. The grams are columns, from rare to
    frequent, and each row has them in this order.
    """
    parts = [
        _list_grams(texts[start : start + _TEXTS_AT_ONCE])
        for start in range(0, len(texts), _TEXTS_AT_ONCE)
    ]
    counted = TermCounts()
    for part in parts:
        counted.add(part.terms, np.bincount(part.columns, minlength=len(part.terms)))
    terms, (num_texts,) = counted.sum_up()
    num_grams = len(terms)
    ranks = np.empty(num_grams, np.int64)
    ranks[np.argsort(num_texts, kind="stable")] = np.arange(num_grams)
    sizes = np.concatenate([part.sizes for part in parts])
    by_size = np.argsort(sizes, kind="stable")
    starts = np.empty_like(sizes)
    starts[by_size] = np.cumsum(sizes[by_size]) - sizes[by_size]
    columns = np.empty(sizes.sum(), np.int32)
    first = 0
    for part in parts:
        of_part = ranks[np.searchsorted(terms, part.terms)]
        rows = np.repeat(np.arange(len(part.sizes)), part.sizes)
        cells = np.sort(rows * num_grams + of_part[part.columns])
        its_starts = starts[first : first + len(part.sizes)]
        columns[_spread(its_starts, part.sizes)] = cells - rows * num_grams
        first += len(part.sizes)
    return _to_matrix(columns, sizes[by_size], num_grams), by_size


def _list_grams(texts: Sequence[str]) -> _PartGrams:
    padded = [f" {strip_polite_words(text)} " for text in texts]
    encoded = "".join(padded).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype="<u4").astype(np.uint64) + np.uint64(1)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    bigrams = codes[:-1] << _CHARACTER_BITS | codes[1:]
    trigrams = bigrams[:-1] << _CHARACTER_BITS | codes[2:]
    # Drop grams that start in one text and end in the next.
    within_two, within_three = owners[:-1] == owners[1:], owners[:-2] == owners[2:]
    grams = np.concatenate([bigrams[within_two], trigrams[within_three]])
    owners = np.concatenate([owners[:-1][within_two], owners[:-2][within_three]])
    terms, numbers = np.unique(grams, return_inverse=True)
    rows, columns = np.divmod(np.unique(owners * len(terms) + numbers), len(terms))
    return _PartGrams(terms, columns.astype(np.int32), np.bincount(rows, minlength=len(texts)))


def _spread(starts: _Indices, sizes: _Indices) -> _Indices:
    """Return the places of some runs, one after the other."""
    return np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def _join(grams: _Grams, similarity: float) -> Iterator[Pairs]:
    """Find similar rows of a matrix sorted by row size; each row is compared with smaller ones."""
    sizes = np.diff(grams.indptr).astype(np.int64)
    least = np.ceil(similarity * sizes - _ROUNDING).astype(np.int64)
    # The smaller of two similar sets can miss fewer grams, so its prefix is shorter.
    least_as_smaller = np.ceil(2 * similarity / (1 + similarity) * sizes - _ROUNDING)
    probes = sizes - least + _SHARED_IN_PREFIX
    index = _take_prefixes(grams, 0, sizes - least_as_smaller.astype(np.int64) + _SHARED_IN_PREFIX)
    for start in range(0, len(sizes), _ROWS_TO_TURN):
        stop = min(start + _ROWS_TO_TURN, len(sizes))
        low = int(np.searchsorted(sizes, least[start]))
        turned = index[low:stop].T.tocsr()
        some = _take_prefixes(grams, start, probes[start:stop])
        for place in range(0, stop - start, _ROWS_AT_ONCE):
            shared = some[place : place + _ROWS_AT_ONCE] @ turned
            first = start + place
            needed = np.minimum(_SHARED_IN_PREFIX, least[first : first + shared.shape[0]])
            # Of frequent grams nearly all rows have some; only those with enough get a row number.
            enough = np.flatnonzero(shared.data >= needed[0])
            larger = np.searchsorted(shared.indptr, enough, side="right") - 1 + first
            smaller = shared.indices[enough] + low
            near = shared.data[enough] >= needed[larger - first]
            near &= (smaller < larger) & (sizes[smaller] >= least[larger])
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


def _take_prefixes(grams: _Grams, first: int, lengths: _Indices) -> _Grams:
    """Return the first columns of each row from the row `first` on, at most so many of each."""
    starts = grams.indptr[first : first + len(lengths)].astype(np.int64)
    sizes = np.minimum(np.diff(grams.indptr[first : first + len(lengths) + 1]), lengths)
    columns = np.empty(sizes.sum(), np.int32)
    done = 0
    for row in range(0, len(sizes), _TEXTS_AT_ONCE):
        some = slice(row, row + _TEXTS_AT_ONCE)
        places = _spread(starts[some], sizes[some])
        columns[done : done + len(places)] = grams.indices[places]
        done += len(places)
    return _to_matrix(columns, sizes, grams.shape[1])


def _to_matrix(columns: npt.NDArray[np.int32], sizes: _Indices, num_columns: int) -> _Grams:
    ends = np.concatenate([[0], np.cumsum(sizes)])
    ends = ends.astype(np.int32) if ends[-1] < 2**31 else ends
    # Sums of ones up to the largest size.
    ones = np.ones(len(columns), np.min_scalar_type(-int(sizes.max(initial=0)) - 1))
    return scipy.sparse.csr_array((ones, columns, ends), shape=(len(sizes), num_columns))
