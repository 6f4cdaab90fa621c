import math
from collections.abc import Sequence

from intent_core.gate.decide import decide
from intent_core.quality.findings import Finding, note, warn
from tests.support.builders.evaluation_reports import (
    LENIENT,
    Scored,
    check_of,
    lenient,
    measured,
    report_of,
    right,
    verdicts,
    wrong,
)


def answers(intent: str, num_right: int, total: int) -> list[Scored]:
    expected = f"{intent}()"
    return [(right if i < num_right else wrong)(f"{intent}-{i}", expected) for i in range(total)]


def test_an_intent_is_below_its_floor_only_beyond_chance() -> None:
    # Exact binomial tails at 0.5: 5 or fewer of 20 have 0.0207, 6 or fewer 0.0577.
    config = lenient(min_per_intent=0.5)
    assert decide(report_of(answers("weather", 6, 20)), None, config).promote
    decision = decide(report_of(answers("weather", 5, 20)), None, config)
    check = check_of(decision, "min_per_intent")
    assert not decision.promote
    assert (check.value, check.threshold, check.bound) == (1, 0, "max")
    assert check.message == (
        "1 of 1 intents significantly below 0.500: weather 0.250 of 20 (p 0.021)"
    )
    assert check.utterances == tuple(f"weather-{i}" for i in range(5, 20))


def test_with_more_intents_one_must_be_further_below() -> None:
    # Holm: 3 * 0.0207 = 0.062 is not significant among three; 3 * 0.0059 = 0.0177 is.
    fine = [*answers("music", 19, 20), *answers("闹钟", 18, 20)]
    config = lenient(min_per_intent=0.5)
    passing = decide(report_of([*fine, *answers("weather", 5, 20)]), None, config)
    assert passing.promote
    assert check_of(passing, "min_per_intent").message == (
        "0 of 3 intents significantly below 0.500"
    )
    decision = decide(report_of([*fine, *answers("weather", 4, 20)]), None, config)
    assert "weather 0.200 of 20 (p 0.018)" in decision.reason
    assert "闹钟" not in decision.reason
    assert not set(check_of(decision, "min_per_intent").utterances) & {"music-19", "闹钟-18"}


def test_the_worst_intents_are_named_first_and_five_of_them() -> None:
    rows = [row for i in range(7) for row in answers(f"intent_{i}", 6 - i, 40)]
    check = check_of(decide(report_of(rows), None, lenient(min_per_intent=0.9)), "min_per_intent")
    assert check.value == 7
    # 0 of 40 right, times 7 (Holm): 7 * 0.1 ** 40
    assert check.message == (
        "7 of 7 intents significantly below 0.900: intent_6 0 of 40 (p 7e-40), intent_5 0.025 of "
        "40 (p 2e-37), intent_4 0.050 of 40 (p 3e-35), intent_3 0.075 of 40 (p 3e-33), intent_2 "
        "0.100 of 40 (p 2e-31), 2 more"
    )


def test_an_intent_with_too_few_utterances_is_held_to_nothing() -> None:
    candidate = report_of(answers("weather", 0, 19))
    decision = decide(candidate, None, lenient(min_per_intent=1.0))
    assert decision.promote
    message = check_of(decision, "min_per_intent").message
    assert message == "no intent has 20 or more test utterances"
    fewer = lenient(min_per_intent=1.0, min_per_intent_support=19)
    assert not decide(candidate, None, fewer).promote
    assert decide(report_of([]), None, fewer).checks[-1].passed


def test_a_slice_is_held_to_its_own_minimum() -> None:
    rows = [right("a", kind="phone"), wrong("b", kind="phone"), right("c", kind="电话")]
    config = lenient(min_per_slice={"channel=phone": 0.5, "channel=电话": 1.0})
    assert decide(report_of(rows), None, config).promote
    stricter = lenient(min_per_slice={"channel=phone": 0.6, "channel=电话": 1.0})
    assert decide(report_of(rows), None, stricter).reason == (
        "1 of 5 checks failed: slice:channel=phone is 0.500 (minimum 0.600): short by 0.100."
    )
    # Wilson of 1/2 starts at 0.0945
    careful = lenient(min_per_slice={"channel=phone": 0.1}, compare="lower_bound")
    assert "lower bound 0.095, short by 0.005" in decide(report_of(rows), None, careful).reason


def test_a_slice_the_test_lacks_rejects() -> None:
    candidate = report_of([right("a", kind="phone")])
    decision = decide(candidate, None, lenient(min_per_slice={"channel=web": 0.0}))
    assert not decision.promote
    assert (
        "slice:channel=web is unknown (minimum 0): the test split has no utterances in this slice"
        in decision.reason
    )
    empty = candidate.slices[0].model_copy(update={"support": 0, "exact_match": measured([])})
    emptied = candidate.model_copy(update={"slices": (empty,)})
    assert not decide(emptied, None, lenient(min_per_slice={"channel=phone": 0.0})).promote


def test_an_answer_may_take_so_long_and_no_longer() -> None:
    rows = [right("a")]
    config = lenient(max_latency_p95_ms=250)
    assert decide(report_of(rows, latency_ms=250), None, config).promote
    slow = decide(report_of(rows, latency_ms=312.5), None, config)
    assert slow.reason == (
        "1 of 4 checks failed: max_latency_p95_ms is 312.500 (maximum 250): over by 62.500."
    )
    assert slow.checks[-1].margin == -62.5
    unknown = decide(report_of(rows), None, config)
    assert not unknown.promote
    assert "no latency was measured" in unknown.reason
    assert not decide(report_of(rows, latency_ms=math.nan), None, config).promote


def test_a_broken_rule_of_the_data_blocks_where_the_recipe_says_so() -> None:
    findings: Sequence[Finding] = (
        warn("conflicts", "2 utterances have two labels", "settle them").finding,
        warn("imbalance", "weather has 90 %", "label others").finding,
        note("label-errors", "9 labels look wrong", "look at them").finding.model_copy(
            update={"is_broken": False}
        ),
    )
    candidate = report_of([right("a")])
    config = lenient(blocking_findings=["conflicts", "label-errors", "conflicts"])
    decision = decide(candidate, None, config, findings)
    assert decision.reason == (
        "1 of 5 checks failed: data:conflicts is 1 (maximum 0): 2 utterances have two labels."
    )
    assert verdicts(decision)["data:label-errors"]
    assert decide(candidate, None, config, findings[1:]).promote
    assert decide(candidate, None, LENIENT, findings).promote


def test_a_run_asked_for_before_the_champions_is_rejected() -> None:
    report = report_of(answers("weather", 20, 20))
    assert decide(report, None, lenient()).promote
    decision = decide(report, None, lenient(), hours_behind=0.5)
    assert not decision.promote
    assert check_of(decision, "newest_run").value == 0.5
