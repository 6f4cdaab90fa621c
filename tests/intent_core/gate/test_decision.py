import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from intent_core.errors import DataError
from intent_core.evaluation.report import EvaluationReport, Failure
from intent_core.gate.decide import approve, decide
from intent_core.gate.decision import Approval, CheckResult, GateDecision
from intent_core.gate.render import format_number, render_decision
from intent_core.recipe.config import GateConfig
from tests.support.builders.evaluation_reports import Scored, by_level, report_of

GOOD, BAD = report_of(by_level([3] * 10)), report_of(by_level([3] * 8 + [0] * 2))
YES = Approval(approved=True, by="Ada", note="", at=datetime(2026, 3, 1, 9, tzinfo=UTC))
NO = YES.model_copy(update={"approved": False, "note": "地名太差"})
LATE = Approval(
    approved=False,
    by="timeout",
    note="no answer within 72 hours",
    at=datetime(2026, 3, 4, 9, tzinfo=UTC),
)


def decided(candidate: EvaluationReport, **settings: Any) -> GateDecision:
    rules = {"min_parameter_accuracy": 0.5, "min_test_examples": 1, **settings}
    return decide(candidate, None, GateConfig.model_validate(rules))


def check(**changes: Any) -> CheckResult:
    fields = {"name": "x", "value": 0.5, "low": 0.4, "high": 0.6, "threshold": 0.5}
    return CheckResult.model_validate({**fields, "passed": True, "message": "just met", **changes})


# The modes and the approval


def test_in_a_dry_run_nothing_is_promoted_whatever_passes() -> None:
    passing, failing = decided(GOOD, mode="dry_run"), decided(BAD, mode="dry_run")
    assert (passing.passed, passing.promote, passing.awaits_approval) == (True, False, False)
    assert passing.reason == "All 3 checks passed; dry run: nothing is promoted."
    assert (failing.passed, failing.promote) == (False, False)
    assert failing.reason == (
        "1 of 3 checks failed: min_intent_accuracy is 0.800 (minimum 0.900): short by 0.100; "
        "dry run: nothing is promoted."
    )
    assert render_decision(passing).startswith("**Dry run, would promote** `candidate`")
    assert render_decision(failing).startswith("**Dry run, would reject** `candidate`")


def test_a_manual_gate_waits_for_a_person() -> None:
    waiting = decided(GOOD, mode="manual")
    assert (waiting.passed, waiting.promote, waiting.awaits_approval) == (True, False, True)
    assert waiting.reason == "All 3 checks passed; waiting for approval."
    assert render_decision(waiting).startswith("**Waiting for approval** `candidate`")

    approved = approve(waiting, YES)
    assert (approved.promote, approved.awaits_approval, approved.approval) == (True, False, YES)
    assert approved.reason == "All 3 checks passed; approved by Ada."
    assert render_decision(approved).startswith("**Promote** `candidate`")
    assert approved.checks == waiting.checks

    declined = approve(waiting, NO)
    assert (declined.passed, declined.promote, declined.awaits_approval) == (True, False, False)
    assert declined.reason == "All 3 checks passed; declined by Ada: 地名太差."
    assert render_decision(declined).startswith("**Declined** `candidate`")

    timed_out = approve(waiting, LATE)
    assert not timed_out.promote
    assert (
        timed_out.reason == "All 3 checks passed; declined by timeout: no answer within 72 hours."
    )


def test_an_approval_overrules_no_check() -> None:
    failing = decided(BAD, mode="manual")
    assert not failing.awaits_approval
    assert "approval" not in failing.reason
    approved = approve(failing, YES)
    assert not approved.promote
    assert approved.reason.endswith("; approved by Ada, which does not override failed checks.")
    assert render_decision(approved).startswith("**Reject** `candidate`")


@pytest.mark.parametrize("mode", ["enforce", "dry_run"])
def test_only_a_manual_gate_takes_an_approval(mode: str) -> None:
    with pytest.raises(DataError, match=f"'candidate': gate.mode is '{mode}'"):
        approve(decided(GOOD, mode=mode), YES)


@pytest.mark.parametrize("mode", ["manual", "dry_run"])
def test_a_decision_with_its_approval_survives_json(mode: str) -> None:
    decision = decided(GOOD, mode=mode)
    answered = approve(decision, NO) if mode == "manual" else decision
    assert GateDecision.model_validate_json(answered.model_dump_json()) == answered


# Invalid decisions


def forged(decision: GateDecision, **changes: Any) -> GateDecision:
    return GateDecision.model_validate({**dict(decision), **changes})


def test_a_decision_cannot_contradict_its_checks() -> None:
    good, bad = decided(GOOD), decided(BAD)
    for decision, changes in (
        (bad, {"promote": True}),
        (bad, {"passed": True}),
        (bad, {"passed": True, "promote": True}),
        (good, {"promote": False}),
        (good, {"checks": ()}),
        (good, {"checks": (), "passed": False}),
        (good, {"mode": "dry_run"}),
        (good, {"mode": "manual"}),
        (good, {"mode": "manual", "approval": NO}),
        (good, {"approval": YES}),
    ):
        assert forged(decision) == decision
        with pytest.raises(ValidationError):
            forged(decision, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 0.499},
        {"value": math.nan},
        {"value": math.inf},
        {"threshold": math.nan},
        {"compared": 0.4},
        {"compared": math.nan},
        {"bound": "max", "value": 0.501},
    ],
)
def test_a_check_passes_only_by_its_number(changes: dict[str, Any]) -> None:
    assert check().margin == 0
    assert check(value=0.75).margin == 0.25
    assert check(value=0.25, bound="max").margin == 0.25
    assert not check(passed=False, **changes).passed
    with pytest.raises(ValidationError, match="cannot pass"):
        check(**changes)


def test_the_last_bit_of_a_threshold_decides_nothing() -> None:
    assert 0.3 < 0.1 + 0.2
    assert check(value=0.3, threshold=0.1 + 0.2).passed


# Rendering


def rows_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_rendered_decision_has_a_verdict_per_check() -> None:
    candidate = report_of(
        [Scored(f"e{i}", i < 801, i < 999, i < 999) for i in range(1000)], digest="d801-999"
    )
    champion = report_of(
        [Scored(f"e{i}", i < 800, i < 999, i < 999) for i in range(1000)], digest="d800-999"
    )
    text = render_decision(decide(candidate, champion, GateConfig()))
    lines = text.splitlines()
    assert lines[0] == "**Reject** `d801-999` (champion `d800-999`, test set `t1`)"
    rows = rows_of(text)
    assert rows[0] == "| check | value | 95 % interval | threshold | margin | verdict |"
    # Wilson 95 % of 801/1000
    assert rows[1] == (
        "| min_intent_accuracy | 0.801 | 0.775 to 0.825 | 0.900 | -0.099 | FAIL: short by 0.099 |"
    )
    assert rows[3] == (
        "| min_test_examples | 1000 | 1000 to 1000 | 100 | +900 | pass: above by 900 |"
    )
    # One fixed of 1000; Bonett and Price: 1/1002 -+ 1.96 * sqrt((3/1002 - 1/1002^2) / 1002)
    assert rows[4] == (
        "| intent_accuracy_regression | 0.001 | -0.002 to 0.004 | -0.020 | +0.021 "
        "| pass: above by 0.021, 1 fixed and 0 broken |"
    )
    assert rows[6] == (
        "| metric | champion | candidate | difference | 95 % interval | p | fixed | broken |"
    )
    assert rows[7] == ("| intent_accuracy | 0.800 | 0.801 | +0.001 | -0.002 to 0.004 | 1 | 1 | 0 |")
    assert rows[10].startswith("| slot_f1 | 0.999 | 0.999 | 0 |")
    assert rows[11] == "| id | utterance | expected | answer |"
    assert rows[12] == "| e801 |  |  |  |"
    assert len(rows) == 12 + 20
    first = render_decision(decide(GOOD, None, GateConfig(min_test_examples=10)))
    assert first.startswith("**Promote** `candidate` (champion none, test set `t1`)\n")
    assert "utterance by utterance" not in first


def test_a_maximum_and_an_unknown_value_are_shown_as_such() -> None:
    slow = report_of(by_level([3] * 10), latency_ms=300)
    assert rows_of(render_decision(decided(slow, max_latency_p95_ms=250)))[4] == (
        "| max_latency_p95_ms | 300 | 300 to 300 | at most 250 | -50 | FAIL: over by 50 |"
    )
    assert rows_of(render_decision(decided(GOOD, max_latency_p95_ms=250)))[4] == (
        "| max_latency_p95_ms | unknown | unknown | at most 250 | unknown "
        "| FAIL: no latency was measured |"
    )


def test_what_stands_behind_a_failed_check_is_shown_in_full() -> None:
    text = render_decision(decided(BAD), BAD.failures)
    assert "\nUtterances that caused min_intent_accuracy to fail:\n" in text
    assert rows_of(text)[-2:] == [
        "| e8 | utterance e8 | weather(Hangzhou) | music_exit() |",
        "| e9 | utterance e9 | weather(Hangzhou) | music_exit() |",
    ]
    assert "Behind" not in render_decision(decided(GOOD), BAD.failures)


def test_a_text_without_end_is_cut() -> None:
    endless = BAD.failures[0].model_copy(update={"predicted": "的" * 5000})
    text = render_decision(decided(BAD), [endless])
    assert "的" * 200 + "…" in text
    assert "的" * 201 not in text


def test_hostile_text_stays_in_its_cell() -> None:
    hostile = Failure(
        example_id="e8",
        instruction="明天 | `rm` |\n|---|\r\n# hi\u2028x",
        expected="a\\|b",
        predicted="<img src=x> [now](http://x) **bold**",
        reason="wrong_intent",
    )
    text = render_decision(decided(BAD), [hostile])
    assert cells(rows_of(text)[-2]) == [
        "e8",
        r"明天 \| \`rm\` \| \|---\| # hi x",
        r"a\\\|b",
        r"&lt;img src=x&gt; \[now\](http\://x) \*\*bold\*\*",
    ]
    nasty = approve(
        decided(GOOD, mode="manual"),
        YES.model_copy(update={"note": "fine\n\n# `x`\n| a |"}),
    )
    assert r"approved by Ada: fine  # \`x\` \| a \|." in render_decision(nasty).splitlines()[2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("a|`\\\n\r\u2028中<", max_size=12), min_size=4, max_size=4))
def test_no_text_adds_a_row_or_a_cell(texts: list[str]) -> None:
    instruction, expected, predicted, digest = texts
    failure = BAD.failures[0].model_copy(
        update={"instruction": instruction, "expected": expected, "predicted": predicted}
    )
    decision = decided(BAD.model_copy(update={"artifact_digest": digest}))
    plain = render_decision(decided(BAD), BAD.failures).splitlines()
    lines = render_decision(decision, [failure, BAD.failures[1]]).splitlines()
    assert len(lines) == len(plain)
    for line, other in zip(lines, plain, strict=True):
        assert len(cells(line)) == len(cells(other)) or not other.startswith("|")
    assert "`" not in lines[-3].replace("\\`", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1000.0, "1000"),
        (0.9, "0.900"),
        (-0.02, "-0.020"),
        (0.0005, "0.001"),
        (0.00001, "1e-05"),
        (math.nan, "unknown"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_short_and_never_hide_a_difference(value: float, shown: str) -> None:
    assert format_number(value) == shown
