"""Record the answers of two versions, queried one request at a time without other load."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import httpx
from serving_load import Target

from intent_core.recipe.config import EvaluateConfig
from tasks.serving.golden import GoldenAnswer

VERSIONS = (0, 1)
_CHOSEN, _GOLDEN = 8, 4


class KnownAnswer(NamedTuple):
    """An answer and its margin: the smallest log-probability gap between best and second token."""

    text: str
    margin: float


class Known(NamedTuple):
    """Utterances of the benchmark, and the answers to them by version."""

    utterances: list[str]
    texts: list[dict[str, str]]
    golden: list[list[GoldenAnswer]]
    """Answers of full length, which a promotion checks."""


def ask_alone(target: Target, utterance: str, tokens: int) -> KnownAnswer:
    answer = httpx.post(
        f"{target.url}/chat/completions",
        json={**target.body(utterance, tokens), "logprobs": True, "top_logprobs": 2},
        headers={"Authorization": f"Bearer {target.key}"},
        timeout=120,
        trust_env=False,
    )
    answer.raise_for_status()
    choice = json.loads(answer.text)["choices"][0]
    margins = [
        token["top_logprobs"][0]["logprob"] - token["top_logprobs"][1]["logprob"]
        for token in choice["logprobs"]["content"]
        if len(token["top_logprobs"]) > 1
    ]
    return KnownAnswer(choice["message"]["content"] or "", min(margins, default=0.0))


def learn(find: Callable[[int], Target], utterances: Sequence[str], tokens: int) -> Known:
    """Choose utterances that the versions answer differently and with a large margin.

    A server rounds differently when it answers several requests at once, which can change an answer
    with a small margin. `find` returns the target of a version without other load.
    """
    longest = EvaluateConfig().max_new_tokens
    short: list[dict[str, KnownAnswer]] = [{}, {}]
    long: list[dict[str, KnownAnswer]] = [{}, {}]
    # Query the version that is served first last, so that a single server can stay up.
    for version in reversed(VERSIONS):
        target = find(version)
        for text in utterances:
            short[version][text] = ask_alone(target, text, tokens)
        surest = sorted(utterances, key=lambda text: -short[version][text].margin)[:_CHOSEN]
        long[version] = {text: ask_alone(target, text, longest) for text in surest}
    margins = {
        text: min(short[version][text].margin for version in VERSIONS) for text in utterances
    }
    distinct = [
        text for text in utterances if _is_telling(short[0][text].text, short[1][text].text)
    ]
    chosen = sorted(distinct, key=lambda text: -margins[text])[:_CHOSEN]
    if len(chosen) < 2:
        raise SystemExit(
            "both versions give the same answers: use another base model, or more --tokens"
        )
    sys.stderr.write(f"{len(chosen)} utterances, smallest margin {margins[chosen[-1]]:.3f}\n")
    texts = [{text: short[version][text].text for text in chosen} for version in VERSIONS]
    return Known(chosen, texts, [_choose_golden(long[version]) for version in VERSIONS])


def _is_telling(first: str, second: str) -> bool:
    return bool(first) and bool(second) and first != second


def _choose_golden(answers: dict[str, KnownAnswer]) -> list[GoldenAnswer]:
    surest = sorted(answers, key=lambda text: -answers[text].margin)[:_GOLDEN]
    return [GoldenAnswer(utterance=text, text=answers[text].text) for text in surest]
