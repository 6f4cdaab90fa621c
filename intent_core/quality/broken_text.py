"""Rule of the data check for text that was damaged before it was labelled."""

import html
import re
from collections.abc import Iterable, Iterator

from intent_core.quality.findings import Corpus, RuleResult, list_some, warn

_PATTERNS = {
    "replacement character": re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯"),
    "control character": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "HTML": re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>|<!--"),
    "escape sequence": re.compile(
        r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|%(?:[eE][0-9a-fA-F]%[0-9a-fA-F]{2})"
    ),
}
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]{1,30});")
# Bytes of UTF-8 read as Latin-1 or Windows-1252: a leading byte and a following one.
_MISREAD = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a-\u2122\u0152-\u017e\u0192\u02c6\u02dc]"
)
_SURELY_MISREAD = re.compile("\u00e2\u20ac|[\u00c2\u00c3][\u0080-\u00bf\u201a-\u2122\u0192]|ï»¿")
_FEW = 2
_BYTES_OF_HAN, _MOSTLY = 3, 0.6
_HAN = re.compile(r"[\u4e00-\u9fff]")


def check_broken_text(corpus: Corpus) -> Iterable[RuleResult]:
    """Yield the finding about utterances and labels with broken text.

    Args:
        corpus: the input of the data check.
    """
    rows = []
    for row, (utterance, calls) in enumerate(zip(corpus.utterances, corpus.labels, strict=True)):
        values = (text for c in calls for text in (c.intent, *(a.value for a in c.arguments)))
        kinds = dict.fromkeys(kind for text in (utterance, *values) for kind in find_broken(text))
        if not any(map(str.isalnum, utterance)):
            kinds["no letters"] = None
        if kinds:
            rows.append(corpus.describe(row, kinds=list(kinds)))
    if rows:
        listed = list_some(dict.fromkeys(kind for row in rows for kind in row["kinds"]))
        yield warn(
            "broken-text",
            f"{len(rows)} row(s) have broken text: {listed}",
            "Correct these rows at their source, or remove them: a model learns them as they are.",
            rows,
            num_utterances=len(rows),
        )


def find_broken(text: str) -> Iterator[str]:
    """Yield the kinds of damage in a text.

    Args:
        text: an utterance, an intent or a value.
    """
    if text.isascii() and text.isprintable() and not any(sign in text for sign in "<&\\%"):
        return
    yield from (kind for kind, pattern in _PATTERNS.items() if pattern.search(text))
    if any(html.unescape(entity) != entity for entity in _ENTITY.findall(text)):
        yield "HTML"
    if _is_misread(text):
        yield "wrong encoding"


def _is_misread(text: str) -> bool:
    """Return whether a text is UTF-8 that was read in another encoding."""
    if _SURELY_MISREAD.search(text) or len(_MISREAD.findall(text)) >= _FEW:
        return True
    # UTF-8 read as GBK gives rare Chinese characters, and loses some bytes.
    raw = text.encode("gbk", "ignore")
    num_han = len(_HAN.findall(raw.decode("utf-8", "ignore")))
    return num_han >= _FEW and _BYTES_OF_HAN * num_han >= _MOSTLY * len(raw)
