import pytest

from intent_core.datasets.manifest import Example
from intent_core.evaluation.evaluate import evaluate
from intent_core.evaluation.prediction import Prediction
from intent_core.evaluation.report import SliceScore
from intent_core.evaluation.slices import classify_length, guess_language


def slices_of(
    examples: list[Example], answers: dict[str, str]
) -> dict[tuple[str, str], SliceScore]:
    predictions = [Prediction(example_id=i, text=text) for i, text in answers.items()]
    return {(s.name, s.value): s for s in evaluate(examples, predictions).slices}


def test_slices_by_hand() -> None:
    examples = [
        Example(id="1", instruction="打开灯", output="on()", tags={"channel": "app"}),
        Example(
            id="2",
            instruction="turn on the light and tell me the weather",
            output="on();weather(x)",
            tags={"channel": "phone", "place": "home"},
        ),
        Example(
            id="3", instruction="去杭州的票多少钱", output="f(杭州)", tags={"channel": "phone"}
        ),
    ]
    slices = slices_of(examples, {"1": "on()", "2": "weather(x);on()", "3": "f(北京)"})
    # name, value: support, intents, parameters and exact right
    expected = {
        ("intents", "one"): (2, 2, 1, 1),
        ("intents", "several"): (1, 1, 1, 0),
        ("language", "en"): (1, 1, 1, 0),
        ("language", "zh"): (2, 2, 1, 1),
        ("length", "medium"): (1, 1, 1, 0),
        ("length", "short"): (2, 2, 1, 1),
        ("slots", "none"): (1, 1, 1, 1),
        ("slots", "some"): (2, 2, 1, 0),
        ("channel", "phone"): (2, 2, 1, 0),
        ("channel", "app"): (1, 1, 1, 1),
        ("place", "home"): (1, 1, 1, 0),
    }
    counted = {
        key: (
            s.support,
            s.intent_accuracy.successes,
            s.parameter_accuracy.successes,
            s.exact_match.successes,
        )
        for key, s in slices.items()
    }
    assert counted == expected
    assert all(s.exact_match.total == s.support for s in slices.values())


def test_a_tag_takes_the_place_of_a_guess_of_its_name() -> None:
    examples = [Example(id="1", instruction="ok", output="f()", tags={"language": "粤语"})]
    values = [value for name, value in slices_of(examples, {}) if name == "language"]
    assert values == ["粤语"]


def test_the_most_frequent_values_of_a_tag_come_first_and_the_rest_not_at_all() -> None:
    callers = ["often", "often", *(f"c{n:02d}" for n in range(60))]
    examples = [
        Example(id=str(n), instruction="say", output="f()", tags={"caller": caller})
        for n, caller in enumerate(callers)
    ]
    values = [value for name, value in slices_of(examples, {}) if name == "caller"]
    assert values == ["often", *(f"c{n:02d}" for n in range(49))]


@pytest.mark.parametrize(
    ("utterance", "language"),
    [
        ("打开灯", "zh"),
        ("播放Taylor Swift的歌", "zh"),
        ("play some music!", "en"),
        ("“play”", "en"),
        ("电気をつけて", "other"),
        ("불 켜줘", "other"),
        ("включи свет", "other"),
        ("où est-il", "other"),
        ("123", "other"),
        ("", "other"),
    ],
)
def test_languages(utterance: str, language: str) -> None:
    assert guess_language(utterance) == language


@pytest.mark.parametrize(
    ("utterance", "length"),
    [
        ("一二三四五六七八", "short"),
        ("一二三四 五六七八", "short"),
        ("一二三四五六七八九", "medium"),
        ("好" * 20, "medium"),
        ("好" * 21, "long"),
        ("one two three four five", "short"),
        ("one two three four five six", "medium"),
        ("word " * 12, "medium"),
        ("word " * 13, "long"),
    ],
)
def test_lengths(utterance: str, length: str) -> None:
    assert classify_length(utterance, guess_language(utterance)) == length
