"""The vectors of texts are those of scikit-learn, which holds a string for each term."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import normalize

from intent_core.quality import text_vectors
from intent_core.quality.text_vectors import TextVectors

TOKEN = r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+"


def embed_with_scikit_learn(texts: list[str]) -> np.ndarray:
    views = [
        ("words", {"token_pattern": TOKEN}),
        ("pairs", {"token_pattern": TOKEN, "ngram_range": (1, 2)}),
        ("characters", {"analyzer": "char_wb", "ngram_range": (1, 4)}),
    ]
    union = FeatureUnion(
        [(name, TfidfVectorizer(sublinear_tf=True, **options)) for name, options in views],
        transformer_weights={"words": 0.5, "pairs": 0.5, "characters": 0.5**0.5},
    )
    return np.asarray(normalize(union.fit_transform(texts)).toarray())


TEXTS = st.lists(st.text("aB1 é播放吧，.!\t\u3000", max_size=12), max_size=12)


@pytest.mark.parametrize("at_once", [2, 5_000])
@settings(max_examples=60)
@given(texts=TEXTS)
def test_the_vectors_are_those_of_scikit_learn(texts: list[str], at_once: int) -> None:
    texts = ["a word 词", *texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_vectors, "_TEXTS_AT_ONCE", at_once)
        parts = list(TextVectors(texts))
    made = vstack([part for part, _ in parts]).toarray()
    assert [start for _, start in parts] == list(range(0, len(texts), at_once))
    theirs = embed_with_scikit_learn(texts)
    # The columns have another order, so all products of two vectors are compared.
    assert np.allclose(made @ made.T, theirs @ theirs.T, atol=1e-12)
