"""Comparison of two models' live answers, and the assignment of callers."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.serving.access.aliases import AliasFile, Target, Trial, TrialLimits, write_aliases
from intent_core.serving.trial.live_comparison import (
    FAILED,
    Comparison,
    JudgedAnswer,
    PairOutcome,
    RecentSeconds,
    judge,
    judge_texts,
)
from intent_core.serving.trial.trial import is_chosen
from tests.support.servers.fake_vllm import NEW, OLD

KNOWN = ("weather_search", "play")
CHOSEN = [n in (1, 2, 4, 6, 7, 8) for n in range(12)]


def trial(share: float = 0.5, mode: Any = "shadow", **limits: Any) -> Trial:
    known = KNOWN if "max_unknown_intent_rate" in limits else ()
    return Trial(
        model=NEW, mode=mode, share=share, limits=TrialLimits(**limits), known_intents=known
    )


def say(*texts: str, seconds: float = 1.0) -> JudgedAnswer:
    return judge_texts(texts, seconds)


def test_a_trial_that_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    limits = TrialLimits(max_parse_failure_rate=0.02, max_latency_ratio_p95=1.5, min_requests=7)
    chosen = Trial(
        model=NEW,
        version="8",
        system_prompt="答调用。",
        mode="canary",
        share=0.05,
        limits=limits,
        known_intents=KNOWN,
    )
    targets = {"intent": Target(model=OLD, trial=chosen), "other": Target(model=OLD)}
    write_aliases(path, targets)
    assert AliasFile(path).read() == targets
    # Without a trial the file has the same form as before trials existed.
    assert '"trial": null' not in path.read_text()


def test_the_least_a_trial_must_say(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    path.write_text(
        f'{{"aliases": {{"intent": {{"model": "{OLD}", "trial":'
        f' {{"model": "{NEW}", "mode": "shadow", "share": 1}}}}}}}}'
    )
    found = AliasFile(path).read()["intent"].trial
    assert found == Trial(model=NEW, mode="shadow", share=1.0)
    assert found.limits.min_requests == 50


@pytest.mark.parametrize(
    "odd",
    [
        *[{"share": share} for share in (-0.1, 1.1, math.nan, "0.5", None)],
        *[{"mode": "both"}, {"model": "../x"}, {"version": "7\r\n"}, {"extra": 1}],
        *[{"limits": {name: 2}} for name in ("max_parse_failure_rate", "max_disagreement_rate")],
        *[{"limits": {"max_latency_ratio_p95": value}} for value in (0, math.inf, -1)],
        *[{"limits": {"min_requests": 0}}, {"limits": {"max_errors": 1}}],
        {"limits": {"max_unknown_intent_rate": 0.1}},
    ],
)
def test_an_odd_trial_is_neither_written_nor_read(tmp_path: Path, odd: dict[str, Any]) -> None:
    path = tmp_path / "aliases.json"
    fields = {"model": NEW, "version": "", "mode": "shadow", "share": 0.5, "limits": {}, **odd}
    path.write_text(json.dumps({"aliases": {"intent": {"model": OLD, "trial": fields}}}))
    assert AliasFile(path).read() == {}
    if "extra" in fields or "max_errors" in fields["limits"]:
        return
    limits = TrialLimits.model_construct(**fields["limits"])
    unchecked = Trial.model_construct(**{**fields, "limits": limits})
    with pytest.raises(DataError):
        write_aliases(path, {"intent": Target.model_construct(model=OLD, trial=unchecked)})


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_those_it_has(caller: str, user: str, one: float, two: float) -> None:
    small, large = sorted((one, two))
    assert is_chosen(trial(large), caller, user) >= is_chosen(trial(small), caller, user)
    assert is_chosen(trial(small), caller, user) == is_chosen(trial(small), caller, user)
    assert is_chosen(trial(1), caller, user)
    assert not is_chosen(trial(0), caller, user)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.95])
def test_the_share_is_about_what_was_said(share: float) -> None:
    chosen = trial(share)
    found = sum(is_chosen(chosen, "app", f"user-{n}") for n in range(4000)) / 4000
    # Five standard deviations.
    assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 4000)


def test_the_choice_is_the_same_for_ever() -> None:
    # A different hash or key would reassign callers when the server is updated.
    assert [is_chosen(trial(), "app", f"user-{n}") for n in range(12)] == CHOSEN
    assert is_chosen(trial(), "app", "\ud800") in (True, False)


@pytest.mark.parametrize("status", [500, 502, 503, 404])
def test_what_the_server_fails_at_is_the_models(status: int) -> None:
    assert judge(status, [], 1.0, True) is FAILED


@pytest.mark.parametrize(("status", "calls"), [(0, True), (400, True), (429, False), (200, True)])
def test_what_tells_nothing_of_the_model_does_not_count(status: int, calls: bool) -> None:
    assert judge(status, [], 1.0, calls) is None


def test_completions_count_by_their_latency() -> None:
    assert judge(200, [], 1.5, False) == JudgedAnswer(calls=(), seconds=1.5)


@pytest.mark.parametrize(
    ("champion", "candidate", "outcome", "disagreement"),
    [
        (say("play(a)"), say("play(a);"), PairOutcome.SAME, 0),
        (say('play("a")'), say("play( a )"), PairOutcome.SAME, 0),
        (say("play(a)"), say("play(b)"), PairOutcome.DIFFERS, 1),
        (say("play(a)"), say("play(a);play(a)"), PairOutcome.DIFFERS, 1),
        (say("play(a)"), say("sing(a)"), PairOutcome.UNKNOWN_INTENT, 1),
        (say("play(a)"), say("I cannot"), PairOutcome.PARSE_FAILURE, 1),
        (say("I cannot"), say("play(a)"), PairOutcome.DIFFERS, 1),
        (say("I cannot"), say("Nor I"), PairOutcome.PARSE_FAILURE, 0),
        (say("play(a)"), FAILED, PairOutcome.FAILED, 1),
        (say("play(a)", "play(b)"), say("play(a)", "play("), PairOutcome.PARSE_FAILURE, 1),
    ],
)
def test_a_pair(
    champion: JudgedAnswer, candidate: JudgedAnswer, outcome: PairOutcome, disagreement: int
) -> None:
    comparison = Comparison(trial(max_unknown_intent_rate=1.0))
    assert comparison.take_pair(champion, candidate) is outcome
    assert comparison.disagreement_rate == disagreement


def test_without_known_intents_none_is_unknown() -> None:
    comparison = Comparison(trial())
    comparison.take_pair(say("play(a)"), say("sing(a)"))
    assert comparison.candidate.unknown_intent_rate is None


def test_nothing_is_known_of_nothing() -> None:
    described = Comparison(trial()).describe()
    assert described.pop("requests") == 0
    assert described.pop("champion") == {
        "requests": 0,
        "parse_failure_rate": None,
        "unknown_intent_rate": None,
        "latency_p95_s": None,
    }
    assert set(described.values()) == {None}


SECONDS = st.floats(0, 100, allow_nan=False)


@given(st.lists(SECONDS, max_size=60), st.integers(1, 20))
def test_the_percentile_is_of_the_latest(seconds: list[float], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("intent_core.serving.trial.live_comparison._KEPT", kept)
        recent = RecentSeconds()
        for value in seconds:
            recent.add(value)
    latest = sorted(seconds[-kept:])
    found = recent.read_p95()
    if not latest:
        assert found is None
        return
    assert found in latest
    below = sum(value <= found for value in latest)
    assert below >= 0.95 * len(latest) > sum(value < found for value in latest)


def test_a_thousand_latencies_are_kept() -> None:
    recent = RecentSeconds()
    for value in range(5000):
        recent.add(float(value))
    assert recent.read_p95() == 4949
    assert len(recent._sorted) == len(recent._in_order) == 1000
    assert statistics.fmean(recent._sorted) == 4499.5


BAD = {
    "max_parse_failure_rate": say("no calls"),
    "max_unknown_intent_rate": say("sing(a)"),
    "max_disagreement_rate": say("play(b)"),
    "max_latency_ratio_p95": say("play(a)", seconds=3.0),
}


@pytest.mark.parametrize("name", BAD)
def test_each_limit_is_passed_by_what_it_limits_only(name: str) -> None:
    limit = 2.0 if name == "max_latency_ratio_p95" else 0.5
    for other, bad in BAD.items():
        comparison = Comparison(trial(min_requests=4, **{name: limit}))
        found = []
        for _ in range(6):
            comparison.take_pair(say("play(a)"), bad)
            found.append(comparison.find_passed_limit())
        # Missing and different answers both count as disagreements.
        if name != other and not (name == "max_disagreement_rate" and bad.seconds == 1.0):
            assert found == [None] * 6
            continue
        value = 3.0 if name == "max_latency_ratio_p95" else 1.0
        assert found == [None] * 3 + [(name, value, limit)] * 3


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 20), st.floats(0, 1))
@settings(max_examples=60)
def test_a_limit_is_passed_by_more_than_it_and_enough_requests(
    failed: list[bool], min_requests: int, limit: float
) -> None:
    comparison = Comparison(
        trial(mode="canary", min_requests=min_requests, max_parse_failure_rate=limit)
    )
    for one in failed:
        comparison.candidate.take(FAILED if one else say("play(a)"))
    passed = comparison.find_passed_limit() is not None
    rate = sum(failed) / len(failed) if failed else 0
    assert passed == (len(failed) >= min_requests and rate > limit)


def test_latencies_are_not_compared_with_a_few_of_the_champions() -> None:
    comparison = Comparison(trial(mode="canary", min_requests=3, max_latency_ratio_p95=2))
    for _ in range(9):
        comparison.candidate.take(say("play(a)", seconds=9.0))
    found = []
    for _ in range(3):
        comparison.champion.take(say("play(a)"))
        found.append(comparison.find_passed_limit())
    assert found == [None, None, ("max_latency_ratio_p95", 9.0, 2.0)]


def test_failed_requests_do_not_make_a_model_fast() -> None:
    comparison = Comparison(trial())
    comparison.take_pair(say("play(a)", seconds=2.0), say("play(a)", seconds=4.0))
    comparison.take_pair(say("play(a)", seconds=2.0), FAILED)
    assert comparison.latency_ratio_p95 == 2.0
    assert comparison.candidate.parse_failure_rate == 0.5
