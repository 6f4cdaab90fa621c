import warnings
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.evaluation.report import ConfusionCell
from intent_core.recipe.config import GateConfig, PipelineConfig
from intent_core.reporting import plot_style
from intent_core.reporting.confusion import tabulate_confusion
from intent_core.reporting.figures import draw_figures
from intent_core.reporting.number_format import p_value, percent, points
from intent_core.reporting.summary import name_verdict, summarise
from intent_core.reporting.tables import group_failures, is_link, list_settings
from intent_core.reporting.untrusted_text import TextPart, Texts, visible
from tests.support.builders.reviews import (
    alone,
    answers,
    chinese,
    failures,
    review,
    rows,
    usual,
    with_failures,
)

PNG = b"\x89PNG\r\n\x1a\n"


def test_figures_are_png_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw_figures(usual())
    assert set(drawn) == {
        "intervals.png",
        "confidence.png",
        "risk_coverage.png",
        "training_curve.png",
        "confusion.png",
    }
    assert all(png.startswith(PNG) and len(png) > 5000 for png in drawn.values())


def test_figures_without_numbers_are_left_out() -> None:
    assert set(draw_figures(alone())) == {"intervals.png", "confusion.png"}


def test_a_matrix_is_drawn_only_where_a_font_has_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"confusion.png"}
    drawn = draw_figures(chinese(), names=one)
    assert all(png.startswith(PNG) for png in drawn.values())
    monkeypatch.setattr(plot_style, "FONTS", ("DejaVu Sans",))
    assert draw_figures(chinese(), names=one) == {}
    assert draw_figures(usual(), names=one).keys() == one


def test_names_of_intents_are_no_formulas() -> None:
    made = usual()
    cells = (ConfusionCell(expected="$\\frac{", predicted="a$b$", count=2),)
    changed = replace(made, report=made.report.model_copy(update={"confusion": cells}))
    assert draw_figures(changed, names={"confusion.png"})["confusion.png"].startswith(PNG)


@pytest.mark.parametrize(
    ("gate", "word"),
    [
        (GateConfig(min_test_examples=1), "Promoted"),
        (GateConfig(min_test_examples=99), "Rejected"),
        (GateConfig(min_test_examples=1, mode="manual"), "Waiting for approval"),
        (GateConfig(min_test_examples=99, mode="manual"), "Rejected"),
        (GateConfig(min_test_examples=1, mode="dry_run"), "Dry run: would be promoted"),
        (GateConfig(min_test_examples=99, mode="dry_run"), "Dry run: would be rejected"),
    ],
)
def test_a_verdict_is_a_word(gate: GateConfig, word: str) -> None:
    examples = rows(("hello", "greet()"))
    assert name_verdict(review(examples, answers(examples, {}), gate=gate).decision).word == word


def test_a_real_difference_is_said_first() -> None:
    examples = rows(*((f"song {i}", f"play(song {i})") for i in range(40)))
    made = review(
        examples, answers(examples, {}), answers(examples, dict.fromkeys(range(10), "play(a)"))
    )
    # 10 fixed, none broken: p = 2 / 2**10.
    assert summarise(made)[:2] == [
        "Better by 25.0 points in parameter accuracy (p = 0.002).",
        "No change in intent accuracy: 100.0\u00a0%.",
    ]


def test_a_rare_reason_is_not_crowded_out() -> None:
    report = with_failures(usual().report, *failures(900, "wrong_value"), *failures(3, "malformed"))
    shown = [(g.reason, g.total, len(g.rows)) for g in group_failures(report, Texts())]
    assert shown == [("wrong_value", 900, 197), ("malformed", 3, 3)]


def test_few_intents_are_all_in_the_matrix_and_many_only_when_confused() -> None:
    report = usual().report
    right = [ConfusionCell(expected=f"i{n:02}", predicted=f"i{n:02}", count=9) for n in range(25)]
    wrong = ConfusionCell(expected="i03", predicted=None, count=1)

    def shown(*cells: ConfusionCell) -> tuple[str | None, ...]:
        return tabulate_confusion(report.model_copy(update={"confusion": cells})).intents

    assert shown(*right[:3]) == ("i00", "i01", "i02")
    assert shown(*right[:3], wrong) == ("i00", "i01", "i02", "i03", None)
    assert shown(*right, wrong) == ("i03", None)
    assert shown(*right) == ()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a/b", True),
        ("https://a:1/#/x?y=1&z=2", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("http://", False),
        ("//a/b", False),
        ("http://a b", False),
        ("java\nscript:alert(1)", False),
        ("http://[", False),
    ],
)
def test_only_web_addresses_are_links(url: str, expected: bool) -> None:
    assert is_link(url) is expected


def test_numbers_do_not_look_like_what_they_are_not() -> None:
    assert [percent(v) for v in (0.0, 0.0001, 0.5, 0.99996, 1.0, None, float("nan"))] == [
        "0.0",
        "< 0.1",
        "50.0",
        "> 99.9",
        "100.0",
        "–",
        "–",
    ]
    assert [points(v) for v in (0.025, -0.025, -0.00001, None)] == ["+2.5", "−2.5", "0.0", "–"]
    assert [p_value(v) for v in (1.0, 0.034, 0.0002, None)] == ["1.00", "0.034", "< 0.001", "–"]


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=100)
def test_marking_differences_loses_no_text(text: str, other: str) -> None:
    shown = Texts().show(text, other)
    assert "".join(part.text for part in shown.parts) == text
    assert all(not part.differs for part in shown.parts) or text != other


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_visible_text_stays_so_and_encodes(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert shown.encode().decode() == shown


def test_chinese_is_compared_by_character() -> None:
    assert Texts().show("订火车票(北京)", "订火车票(南京)").parts == (
        TextPart("订火车票(", False),
        TextPart("北", True),
        TextPart("京)", False),
    )


def test_a_page_shows_settings_without_a_default_and_the_vocabulary_in_short() -> None:
    many = {f"intent_{i}": {"description": "long " * 50} for i in range(200)}
    data = {"template": {"intent": "intent"}, "vocabulary": {"intents": many}}
    shown = list_settings(PipelineConfig.model_validate({"data": data}))["data"]
    values = {name: (value, is_set) for name, value, is_set in shown}
    assert values["template"] == ("intent: intent, slots: []", True)
    text, is_set = values["vocabulary"]
    assert is_set and len(text) == 16
