import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.report import ConfusionCell
from intent_core.gate.decide import approve
from intent_core.gate.decision import Approval
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.config import EvaluateConfig, GateConfig
from intent_core.reporting.page import render_review
from intent_core.reporting.summary import name_verdict
from tests.support.builders.reviews import (
    HOSTILE,
    LINKS,
    alone,
    answers,
    chinese,
    failures,
    hostile,
    review,
    rows,
    usual,
    with_failures,
)

SECTIONS = [
    "verdict",
    "numbers",
    "changes",
    "checks",
    "intents",
    "slots",
    "confusion",
    "failures",
    "slices",
    "confidence",
    "latency",
    "training",
    "data",
    "lineage",
]
SCENARIOS = ("usual", "alone", "hostile", "chinese")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    made = {"usual": usual(), "alone": alone(), "hostile": hostile(), "chinese": chinese()}
    return {name: render_review(one) for name, one in made.items()}


class Page(HTMLParser):
    """Parses a page into its elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "source", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_page_is_well_formed_and_loads_nothing(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.open == []
    assert page.elements.count("script") == 1
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    targets = [value or "" for key, value in page.attributes if key in ("src", "href", "srcset")]
    assert targets
    for target in targets:
        assert target.startswith(("data:image/png;base64,", "#")) or target in LINKS.values()
    assert "url(" not in pages[name]
    assert "@import" not in pages[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_sections_come_in_the_order_of_a_review(pages: dict[str, str], name: str) -> None:
    found = re.findall(r'<(?:section|header) id="(\w+)"', pages[name])
    assert found == [one for one in SECTIONS if name != "alone" or one != "changes"]


def test_the_page_says_what_got_better_and_what_broke(pages: dict[str, str]) -> None:
    text = Page(pages["usual"]).text
    # 18 of 20 against 17 of 20; of the three that differ two are fixed: p is 1.
    for fact in (
        "Promoted",
        "No significant difference in parameter accuracy (+5.0 points, p = 1.00).",
        "2 utterances were fixed, most of them in play_music (2); 1 utterance was broken, in play",
        "90.069.9 to 97.2",
        "2 / 1",
        "play song 2play_music(song 2)play_music(lost)right",
        "play song 0play_music(song 0)rightplay_music(song)",
        "min_parameter_accuracy",
        "1 play_music → add",
        "wrong value 1",
        "wrong intent 1",
        "p50 (median)29",
        "loss 0.600, 75.0 % of answers right in every token",
        "label more of the other",
        "oss://bucket/export.manifest",
        "e" * 64,
        "d1d1d1d1d1d1d1d1",
        "test 20",
        "1,234 records",
        "num_train_epochs3",
        "http://mlflow.test/#/runs/7",
    ):
        assert fact in text, fact


def test_the_page_shows_what_is_right_by_normalisation(pages: dict[str, str]) -> None:
    examples = rows(("volume five", "set_volume(5)"), ("VIP", "book(VIP,三)"), ("stop", "stop()"))
    given = answers(examples, {0: "set_volume(5.0)", 1: "book(vip,3.0)"})
    config = EvaluateConfig(normalise_values=("numbers", "case"))
    made = replace(review(examples, given), report=evaluate(examples, given, config))
    text = Page(render_review(made)).text
    assert "Right by normalisation 2" in text
    assert "evaluate.normalise_values: numbers 2, case 1." in text
    assert "volume fiveset_volume(5)set_volume(5.0)numbers" in text
    assert "book(vip,3.0)case, numbers" in text
    assert "Right by normalisation" not in Page(pages["usual"]).text


def test_the_page_shows_whether_answers_were_grounded(pages: dict[str, str]) -> None:
    bare = alone()
    sentence = "Answers are grounded: the recipe has serve.grounded: always."
    grounded = bare.report.model_copy(update={"grounding": sentence})
    assert sentence in Page(render_review(replace(bare, report=grounded))).text
    assert "grounded" not in Page(pages["alone"]).text
    assert "grounding" not in bare.report.model_dump(), "an earlier version can read it"


def test_without_champion_confidences_or_training(pages: dict[str, str]) -> None:
    text = Page(pages["alone"]).text
    for fact in (
        "There is no champion to compare with. Of 2 utterances, 100.0 % have the right intents",
        "All utterances are exact matches.",
        "No intents were confused.",
        "The answers have no confidences.",
        "No latency was measured.",
        "No losses were recorded.",
    ):
        assert fact in text, fact
    assert "± champion" not in text


def test_an_empty_report_has_a_page() -> None:
    bare = alone()
    nothing = {"per_intent": (), "slices": (), "confusion": (), "failures": ()}
    dataset = bare.dataset.model_copy(update={"findings": ()})
    bare = replace(bare, report=bare.report.model_copy(update=nothing), dataset=dataset, links={})
    text = Page(render_review(bare)).text
    assert "The report has no slices." in text
    assert "The test split has no intents." in text
    assert "There are no calls to compare." in text
    assert "The data check has no findings." in text


def test_hostile_text_is_shown_as_text(pages: dict[str, str]) -> None:
    page = Page(pages["hostile"])
    for shown in (
        "<script>alert(1)</script>",
        '" onmouseover="alert(1)" x="',
        "{{ 7 * 7 }}{% raw %}",
        "<img src=x onerror=alert(1)>",
        "a⟨U+202E⟩gnp.exe⟨U+2066⟩",
        "nul␀ escape␛[31m",
        "javascript:alert(1)",
    ):
        assert shown in page.text, shown
    # Shortened, with the full text below it.
    assert "x" * 199 + "…" in page.text
    assert "x" * 10_000 + "<b>end" in page.text
    assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e\u2066-\u2069]", pages["hostile"])


def test_chinese_is_marked_as_such(pages: dict[str, str]) -> None:
    assert '<bdi class="text " dir="auto" lang="zh">播放晴天</bdi>' in pages["chinese"]


def test_an_approval_names_the_person() -> None:
    examples = rows(("hello", "greet()"))
    made = review(
        examples, answers(examples, {}), gate=GateConfig(min_test_examples=1, mode="manual")
    )
    at = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)
    no = approve(made.decision, Approval(approved=False, by="<Ann>", note="after Friday", at=at))
    text = Page(render_review(replace(made, decision=no))).text
    assert name_verdict(no).word == "Declined"
    assert "Declined by <Ann>, 2026-05-04 03:02 UTC: after Friday" in text


def test_a_page_of_much_is_small_and_says_what_it_leaves_out() -> None:
    made = usual()
    report = with_failures(made.report, *failures(20_000, "wrong_value"))
    score = report.per_intent[0]
    scores = tuple(score.model_copy(update={"intent": f"intent_{i}"}) for i in range(1000))
    cells = tuple(
        ConfusionCell(expected=f"intent_{i}", predicted=f"intent_{(i * 7 + 1) % 1000}", count=1 + i)
        for i in range(1000)
    )
    report = report.model_copy(update={"per_intent": scores, "confusion": cells})
    page = render_review(replace(made, report=report))
    text = Page(page).text
    assert len(page.encode()) < 4_000_000
    assert "19,800 more are in the failures table." in text
    assert "800 more intents with better scores." in text
    assert "characters are omitted" in text
    assert "intents were confused less often" in text


def test_the_difference_of_the_vocabularies_is_shown_if_both_are_known() -> None:
    old = Vocabulary.model_validate({"intents": {"play_music": {"slots": [{"name": "song"}]}}})
    new = Vocabulary.model_validate({"intents": {"play_music": {"description": HOSTILE[0]}}})
    text = Page(render_review(replace(usual(), vocabulary=new, champion_vocabulary=old))).text
    assert "Vocabulary 2" in text
    assert "play_music: description changed" in text
    assert "play_music: slot removed: song" in text
    same = replace(usual(), vocabulary=new, champion_vocabulary=new)
    assert "The same as the champion's." in Page(render_review(same)).text
    assert "Vocabulary" not in Page(render_review(replace(usual(), vocabulary=new))).text
