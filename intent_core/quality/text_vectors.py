"""Texts as sparse vectors of TF-IDF weights: words, pairs of words, and character n-grams.

Each of the three is a view: its weights are `1 + log(count)` times the inverse document frequency,
and have length 1. The terms of a view are its most frequent ones. The vector of a text has all
views, with a weight each, and length 1; a text without any term has the vector 0.

A term is a 64-bit hash of its characters, and texts are read a number at a time, so that a million
of them need little memory. A word's n-grams are counted once, however often it occurs.

The vectors are those of scikit-learn's `TfidfVectorizer` with `sublinear_tf`, `smooth_idf` and
`analyzer="char_wb"`, which would hold a string for each term.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from intent_core.language.near_duplicates import TermCounts

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MAX_TERMS = 2**16
_TEXTS_AT_ONCE = 2_500
_LONGEST_GRAM = 4
_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
"""A word; in Chinese, which has no spaces, a character."""

_Codes = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]
_Weights = npt.NDArray[np.float64]


class _TermMatrix(NamedTuple):
    """How often each text has each term."""

    matrix: "csr_array"
    terms: _Codes
    """The hash of each column, sorted."""


class _TermView(NamedTuple):
    """A kind of terms."""

    tabulate: Callable[[Sequence[str]], _TermMatrix]
    weight: float


class _ViewTerms(NamedTuple):
    """The terms of a view, sorted, with the inverse document frequency of each."""

    terms: _Codes
    rarity: _Weights


class TextVectors:
    """Vectors of texts, made a number of texts at a time."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn the terms of texts and how rare each is.

        Args:
            texts: all texts.
        """
        self._texts = texts
        first: list[_TermMatrix] = []
        counts = [TermCounts() for _ in _VIEWS]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            counted = self._count(start)
            for all_counts, (matrix, terms) in zip(counts, counted, strict=True):
                times = np.bincount(matrix.indices, matrix.data, len(terms)).astype(np.int64)
                all_counts.add(terms, times, np.bincount(matrix.indices, minlength=len(terms)))
            first = first or counted
        self._vocabularies = [_choose(its, len(texts)) for its in counts if texts]
        # Few texts are counted once.
        self._all = [self._weigh(first)] if 0 < len(texts) <= _TEXTS_AT_ONCE else []

    def __iter__(self) -> Iterator[tuple["csr_array", int]]:
        """Yield vectors of some texts and the index of the first, in order of the texts."""
        if self._all:
            yield self._all[0], 0
            return
        for start in range(0, len(self._texts), _TEXTS_AT_ONCE):
            yield self._weigh(self._count(start)), start

    def _count(self, start: int) -> list[_TermMatrix]:
        some = [text.lower() for text in self._texts[start : start + _TEXTS_AT_ONCE]]
        return [view.tabulate(some) for view in _VIEWS]

    def _weigh(self, counted: Sequence[_TermMatrix]) -> "csr_array":
        from scipy.sparse import csr_array, hstack

        parts = [
            _weigh(counts, vocabulary, view.weight)
            for counts, vocabulary, view in zip(counted, self._vocabularies, _VIEWS, strict=True)
        ]
        return csr_array(_scale(hstack(parts, format="csr"), 1.0))


def _choose(counted: TermCounts, num_texts: int) -> _ViewTerms:
    """Return the most frequent terms."""
    terms, (times, num_with) = counted.sum_up()
    kept = np.sort(np.argsort(-times, kind="stable")[:_MAX_TERMS])
    return _ViewTerms(terms[kept], np.log((1 + num_texts) / (1 + num_with[kept])) + 1)


def _weigh(counts: _TermMatrix, vocabulary: _ViewTerms, weight: float) -> "csr_array":
    from scipy.sparse import csr_array

    columns = np.searchsorted(vocabulary.terms, counts.terms)
    columns[columns == len(vocabulary.terms)] = 0
    is_known = vocabulary.terms[columns] == counts.terms if len(vocabulary.terms) else columns < 0
    matrix = counts.matrix
    inside = is_known[matrix.indices]
    kept = columns[matrix.indices[inside]]
    values = (1 + np.log(matrix.data[inside])) * vocabulary.rarity[kept]
    ends = np.concatenate([[0], np.cumsum(inside)])[matrix.indptr]
    shape = (matrix.shape[0], len(vocabulary.terms))
    return _scale(csr_array((values, kept, ends), shape=shape), weight)


def _scale(matrix: "csr_array", length: float) -> "csr_array":
    """Give each row of a matrix a length, in place; a row of zeros stays as it is."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(rows, matrix.data**2, matrix.shape[0]))
    matrix.data *= length / lengths[rows]
    return matrix


def _count_words(texts: Sequence[str]) -> _TermMatrix:
    rows, tokens = _split(texts, _TOKEN.findall)
    return _tabulate(rows, _hash_words(tokens), len(texts))


def _count_pairs(texts: Sequence[str]) -> _TermMatrix:
    rows, tokens = _split(texts, _TOKEN.findall)
    codes = _hash_words(tokens)
    within = rows[:-1] == rows[1:]
    pairs = (codes[:-1] * _FACTORS[0] + codes[1:] * _FACTORS[1])[within]
    both = np.concatenate([rows, rows[:-1][within]]), np.concatenate([codes, pairs])
    return _tabulate(*both, len(texts))


def _count_grams(texts: Sequence[str]) -> _TermMatrix:
    rows, words = _split(texts, str.split)
    numbers: dict[str, int] = {}
    of_row = np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)
    characters, owners = _read_characters([f" {word} " for word in numbers])
    grams = _tabulate(*_hash_grams(characters, owners), len(numbers))
    in_rows = _tabulate(rows, of_row.astype(np.uint64), len(texts))
    return _TermMatrix(in_rows.matrix @ grams.matrix, grams.terms)


# As much of the vector is of words as of characters.
_VIEWS = (
    _TermView(_count_words, 0.5),
    _TermView(_count_pairs, 0.5),
    _TermView(_count_grams, 0.5**0.5),
)


def _split(texts: Sequence[str], split: Callable[[str], list[str]]) -> tuple[_Places, list[str]]:
    """Return the parts of texts, and the text that each is of."""
    parts = [split(text) for text in texts]
    rows = np.repeat(np.arange(len(parts)), [len(its) for its in parts])
    return rows, [part for its in parts for part in its]


def _read_characters(texts: Sequence[str]) -> tuple[_Codes, _Places]:
    """Return the hash of each character, and the text that each is of."""
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, "<u4").astype(np.uint64)
    return _scramble(codes + np.uint64(1)), np.repeat(
        np.arange(len(texts)), [len(text) for text in texts]
    )


def _scramble(codes: _Codes) -> _Codes:
    """Return numbers whose bits look random.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
    """
    codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return codes ^ (codes >> np.uint64(31))


_FACTORS = _scramble(np.arange(1, 5, dtype=np.uint64)) | np.uint64(1)


def _hash_words(words: Sequence[str]) -> _Codes:
    """Return the hash of each word; each has a character."""
    if not words:
        return np.zeros(0, np.uint64)
    characters, owners = _read_characters(words)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(owners)) + 1])
    places = np.arange(len(owners)) - starts[owners]
    # A sum of the characters, each scrambled with its place.
    return np.add.reduceat(_scramble(characters + places.astype(np.uint64)), starts)


def _hash_grams(characters: _Codes, owners: _Places) -> tuple[_Places, _Codes]:
    """Return the n-grams within each text, and the text that each is of."""
    rows, codes = [], []
    running = np.zeros(len(characters), np.uint64)
    for size in range(1, _LONGEST_GRAM + 1):
        length = max(len(characters) - size + 1, 0)
        running = running[:length] + characters[size - 1 :] * _FACTORS[size - 1]
        within = owners[:length] == owners[size - 1 :]
        rows.append(owners[:length][within])
        codes.append(running[within])
    return np.concatenate(rows), np.concatenate(codes)


def _tabulate(rows: _Places, codes: _Codes, num_texts: int) -> _TermMatrix:
    from scipy.sparse import csr_array

    terms, columns = np.unique(codes, return_inverse=True)
    ones = np.ones(len(rows), np.int32)
    matrix = csr_array((ones, (rows, columns)), shape=(num_texts, len(terms)))
    matrix.sum_duplicates()
    return _TermMatrix(matrix, terms)
