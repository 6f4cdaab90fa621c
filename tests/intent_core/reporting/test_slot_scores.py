from dataclasses import replace

from intent_core.evaluation.report import EvaluationReport
from intent_core.language.vocabulary import Vocabulary
from intent_core.recipe.config import EvaluateConfig, PipelineConfig
from intent_core.reporting.review import Review
from intent_core.reporting.slot_scores import list_slots
from tests.support.builders.reviews import alone, answers, chinese, review, rows, usual

VOCABULARY = Vocabulary.model_validate(
    {
        "intents": {
            "weather": {
                "slots": [
                    {"name": "city", "type": "one_of", "values": ["Hangzhou", "Beijing"]},
                    {"name": "day", "type": "number"},
                ]
            }
        }
    }
)


def count(made: Review) -> dict[str, tuple[int, int, int]]:
    """Return the numbers of labelled, answered and right values by slot."""
    counted = {}
    for row in list_slots(made):
        sides = [(m.total, m.successes) if m else (0, 0) for m in (row.recall, row.precision)]
        counted[row.label] = (sides[0][0], sides[1][0], max(s for _, s in sides))
    return counted


def weather() -> Review:
    examples = rows(
        ("in Hangzhou on 3", "weather(Hangzhou,3)"),
        ("on 4 in Beijing", "weather(4,Beijing)"),
        ("in Paris", "weather(Paris)"),
        ("Hangzhou and Hangzhou", "weather(Hangzhou);weather(Hangzhou)"),
        ("???", "weather(5)"),
    )
    wrong = {1: "weather(Beijing)", 3: "weather(Hangzhou);weather(3)", 4: "weather("}
    return review(examples, answers(examples, wrong))


def test_slots_have_the_names_of_the_vocabulary() -> None:
    named = replace(weather(), vocabulary=VOCABULARY)
    assert count(named) == {
        "weather.day": (3, 2, 1),
        "weather.city": (4, 3, 3),
        "weather[1]": (1, 1, 1),
    }
    assert next(row.label for row in list_slots(named)) == "weather.day", "the weakest first"


def test_without_a_vocabulary_a_slot_is_a_place_or_a_stated_name() -> None:
    assert count(weather()) == {"weather[1]": (6, 5, 3), "weather[2]": (2, 1, 1)}
    examples = rows(("x", "a(p,city=q,r)"))
    stated = review(examples, answers(examples, {}))
    assert count(stated) == {"a[1]": (1, 1, 1), "a.city": (1, 1, 1), "a[2]": (1, 1, 1)}
    assert list_slots(alone()) == []


def test_a_vocabulary_changes_no_metric() -> None:
    made = weather()
    stored = made.report.model_dump_json()
    list_slots(replace(made, vocabulary=VOCABULARY))
    assert EvaluationReport.model_validate_json(stored) == made.report


def test_values_that_count_as_equal_are_right_here_too() -> None:
    examples = rows(("play abc", "play(abc,x)"))
    made = review(examples, answers(examples, {0: "play(ABC,y)"}))
    config = PipelineConfig(evaluate=EvaluateConfig(normalise_values=("case",)))
    assert count(replace(made, config=config))["play[1]"] == (1, 1, 1)
    assert count(made)["play[1]"] == (1, 1, 0)


def test_rows_add_up_to_the_labels() -> None:
    for made in (usual(), chinese()):
        labelled = sum(labelled for labelled, _, _ in count(made).values())
        assert labelled == sum(made.report.outcomes.slots_expected)
