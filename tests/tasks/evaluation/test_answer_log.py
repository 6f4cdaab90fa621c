"""A killed evaluation resumes with the missing answers and repeats no request."""

from pathlib import Path

from intent_core.datasets.manifest import Example
from intent_core.evaluation.prediction import Prediction
from tasks.evaluation.answer_log import KeptAnswers

EXAMPLES = [Example(id=name, instruction=f"say {name}", output="say()") for name in "abc"]


def answer(name: str, text: str = "say()") -> Prediction:
    return Prediction(example_id=name, text=text, latency_ms=3.0, confidence=0.5)


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with KeptAnswers(path) as kept:
        kept.add(answer("b", "天气(杭州)"))
        kept.add(answer("a"))
    torn = answer("c").model_dump_json()
    path.write_text(path.read_text() + torn[: len(torn) // 2], encoding="utf-8")
    with KeptAnswers(path) as kept:
        assert [example.id for example in kept.missing(EXAMPLES)] == ["c"]
        kept.add(answer("c"))
        assert kept.of(EXAMPLES) == [answer("a"), answer("b", "天气(杭州)"), answer("c")]
    with KeptAnswers(path) as kept:
        assert kept.missing(EXAMPLES) == []
        assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_an_answer_counts_once(tmp_path: Path) -> None:
    with KeptAnswers(tmp_path / "answers.jsonl") as kept:
        kept.add(answer("a", "first()"))
        kept.add(answer("a", "second()"))
        assert len(kept) == 1
        assert kept.of(EXAMPLES[:1]) == [answer("a", "first()")]
