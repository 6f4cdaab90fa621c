"""Public problems: each finding names the rows that it is about."""

from pathlib import Path

import pytest

from tests.intent_core.quality.conftest import CheckRows

CASES = Path(__file__).parents[2] / "data/cases"


@pytest.mark.parametrize(
    ("case", "rule", "lines"),
    [
        ("05-lookalike-intents", "look-alike-intents", [116, 117, 118, 119, 121, 122, 123]),
        ("07-unquoted-comma-and-lists", "joined-values", [1, 2, 3, 4]),
        ("13-label-error-place", "label-errors", [8, 31]),
        ("16-broken-text", "broken-text", [1, 2, 3, 4, 5, 6, 8, 9]),
        ("21-missing-values", "missing-values", [61, 62, 63, 64]),
    ],
)
def test_the_rows_of_a_problem(
    check_rows: CheckRows, case: str, rule: str, lines: list[int]
) -> None:
    rows = check_rows(path=CASES / case / "export.manifest")[rule]
    assert sorted(row["line"] for row in rows) == lines
    assert {row["source"] for row in rows} == {"export.manifest"}


def test_one_value_with_commas(check_rows: CheckRows) -> None:
    rows = check_rows(path=CASES / "07-unquoted-comma-and-lists/export.manifest")["joined-values"]
    values = {row["line"]: row["value"] for row in rows}
    assert values == {
        1: "[[1,2],[3,4],[1,4]]",
        2: "1,000",
        3: "march 5, 2024",
        4: "hello, goodbye",
    }


def test_all_look_alikes_name_the_frequent_intent(check_rows: CheckRows) -> None:
    found = check_rows(path=CASES / "05-lookalike-intents/export.manifest")
    assert {row["likely"] for row in found["look-alike-intents"]} == {"play_music"}
    assert "few-utterances" not in found, "nobody should label 50 utterances of a misspelling"


def test_a_file_for_each_finding_that_counts_rows(check_rows: CheckRows) -> None:
    found = check_rows(path=CASES / "19-rows-behind-findings/export.manifest")
    for rule in ("foreign-values", "near-duplicates"):
        assert all(row["source"] == "export.manifest" and row["line"] for row in found[rule])
    assert len(found["foreign-values"]) == 8
    assert "intent_13" in {row["intent"] for row in found["few-utterances"]}
