"""Answers and test sets in all formats are scored; nothing is missing without being counted."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intent_core.errors import DataError
from intent_core.evaluation.score_files import score_files
from intent_core.recipe.config import DataConfig, EvaluateConfig, PipelineConfig
from tests.support.builders.export_rows import row, survey

LENIENT = PipelineConfig(data=DataConfig(max_rejection_rate=1))
Pairs = list[tuple[str, str]]


def to_alpaca(pairs: Pairs) -> bytes:
    rows = [{"instruction": utterance, "output": answer} for utterance, answer in pairs]
    return "\n".join(map(json.dumps, rows)).encode()


def to_array(pairs: Pairs) -> bytes:
    rows = [{"instruction": utterance, "output": answer} for utterance, answer in pairs]
    return b"\xef\xbb\xbf" + json.dumps(rows, indent=1).encode()


def to_csv(pairs: Pairs, delimiter: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("instruction", "output"), *pairs])
    return text.getvalue().encode("utf-8-sig")


def to_predictions(pairs: Pairs) -> bytes:
    rows = [{"prompt": u, "predict": answer, "label": answer} for u, answer in pairs]
    return "\n".join(map(json.dumps, rows)).encode()


def to_chat(pairs: Pairs) -> bytes:
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Reply with calls."},
                {"role": "user", "content": utterance},
                {"role": "assistant", "content": answer},
            ]
        }
        for utterance, answer in pairs
    ]
    return "\n".join(map(json.dumps, rows)).encode()


def to_itag(pairs: Pairs) -> bytes:
    rows = [row(utterance, label_7=survey(answer)) for utterance, answer in pairs]
    return "\n".join(map(json.dumps, rows)).encode()


def to_zip(pairs: Pairs) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.jsonl", to_alpaca(pairs[:1]))
        archive.writestr("b.csv", to_csv(pairs[1:]))
    return content.getvalue()


WRITERS: list[Callable[[Pairs], bytes]] = [
    *(to_alpaca, to_array, to_csv, to_predictions, to_chat, to_itag, to_zip),
    lambda pairs: to_csv(pairs, ";"),
    lambda pairs: to_csv(pairs, "\t"),
    lambda pairs: gzip.compress(to_csv(pairs)),
]
GOLD = [("play it", "play(x)"), ("stop", "stop()"), ("stop", "stop()")]
GIVEN = [("play it", "play(x)"), ("stop", "I cannot do that."), ("stop", "stop()")]


def score(
    tmp_path: Path, gold: bytes, answers: bytes, config: PipelineConfig = LENIENT
) -> dict[str, Any]:
    (tmp_path / "gold").write_bytes(gold)
    (tmp_path / "answers").write_bytes(answers)
    return score_files(tmp_path / "gold", tmp_path / "answers", config)


@pytest.mark.parametrize("write_answers", WRITERS)
@pytest.mark.parametrize("write_gold", WRITERS)
def test_every_format_against_every_format(
    tmp_path: Path, write_gold: Callable[[Pairs], bytes], write_answers: Callable[[Pairs], bytes]
) -> None:
    report = score(tmp_path, write_gold(GOLD), write_answers(GIVEN))
    assert (report["num_examples"], report["num_missing_predictions"]) == (3, 0)
    assert (report["exact_match"], report["parse_rate"]) == (2 / 3, 2 / 3)
    assert report["num_rejected"] == report["num_rejected_predictions"] == 0


@pytest.mark.parametrize("answer", ["", "no call", "play(x", "play(“x”)", 7, None, ["play(x)", 1]])
def test_an_answer_that_is_not_calls_is_wrong(tmp_path: Path, answer: object) -> None:
    answers = json.dumps({"instruction": "play it", "output": answer}).encode()
    report = score(tmp_path, to_alpaca(GOLD[:1]), answers)
    assert report["exact_match"] == 0
    assert (report["num_rejected_predictions"], report["num_missing_predictions"]) == (0, 0)


def test_rejected_rows_of_the_test_set_are_counted(tmp_path: Path) -> None:
    gold = [*GOLD[:1], ("stop", "not a call"), ("stop", "stop()")]
    report = score(tmp_path, to_alpaca(gold) + b"\n{", to_alpaca([*GIVEN, ("lost", "a()")]))
    assert (report["num_examples"], report["exact_match"]) == (2, 1.0)
    assert report["rejections"] == {"bad-calls": 1, "truncated": 1}
    assert (report["num_rejected"], report["num_unscored_predictions"]) == (2, 2)
    with pytest.raises(DataError, match=r"1 of 3 rows of .*gold were rejected"):
        score(tmp_path, to_alpaca(gold), to_alpaca(GIVEN), PipelineConfig())


def test_rejected_answers_are_counted(tmp_path: Path) -> None:
    answers = to_alpaca(GOLD[:1]) + b'\n{"instruction": "stop"}\n[7]\n' + to_alpaca(GOLD[1:2])
    report = score(tmp_path, to_alpaca(GOLD), answers)
    # The first "stop" has no answer, the second one has.
    assert (report["num_missing_predictions"], report["exact_match"]) == (1, 2 / 3)
    assert report["rejected_predictions"] == {"unlabelled": 1, "not-an-object": 1}


def test_an_answer_to_another_utterance_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown example: 'lost #1'"):
        score(tmp_path, to_alpaca(GOLD), to_alpaca([("lost", "a()")]))


@pytest.mark.parametrize("content", [b"", b"[]", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    for gold, answers in [(content, to_alpaca(GOLD)), (to_alpaca(GOLD), content)]:
        with pytest.raises(DataError, match="does not contain rows"):
            score(tmp_path, gold, answers)


def test_a_prompt_with_a_chat_template(tmp_path: Path) -> None:
    prompt = "<|im_start|>system\nReply.<|im_end|>\n<|im_start|>user\nstop<|im_end|>\n"
    answer = {"prompt": f"{prompt}<|im_start|>assistant\n", "predict": "stop()\n", "label": "x"}
    report = score(tmp_path, to_alpaca([("stop", "stop()")]), json.dumps(answer).encode())
    assert report["exact_match"] == 1


def test_the_recipe_sets_how_answers_are_compared(tmp_path: Path) -> None:
    files = (to_alpaca([("play", "play(X)")]), to_alpaca([("play", "play(x)")]))
    assert score(tmp_path, *files)["exact_match"] == 0
    config = PipelineConfig(evaluate=EvaluateConfig(normalise_values=("case",)))
    assert score(tmp_path, *files, config)["exact_match"] == 1


def test_numbers_are_equal_however_they_are_written(tmp_path: Path) -> None:
    gold = [("volume five", "set_volume(5)"), ("half", "set_volume(0.5)")]
    gold.append(("send a thousand", "transfer(1000)"))
    answers = [("volume five", "set_volume(5.0)"), ("half", "set_volume(.5)")]
    answers.append(("send a thousand", "transfer(1000.00)"))
    files = (to_alpaca(gold), to_alpaca(answers))
    assert score(tmp_path, *files)["parameter_accuracy"] == 0
    config = PipelineConfig(evaluate=EvaluateConfig(normalise_values=("numbers",)))
    report = score(tmp_path, *files, config)
    assert report["parameter_accuracy"] == report["exact_match"] == report["slot_f1"] == 1
    assert report["normalised"] == {"numbers": 3}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["f()", "g(1)", "no", "f("])),
        min_size=1,
        max_size=8,
    ),
    answers=st.lists(st.sampled_from(["f()", "g(1)", "no", ""]), min_size=8, max_size=8),
)
def test_every_row_and_every_answer_is_counted(
    tmp_path: Path, pairs: Pairs, answers: list[str]
) -> None:
    given_answers = [(u, answer) for (u, _), answer in zip(pairs, answers, strict=False)]
    try:
        report = score(tmp_path, to_alpaca(pairs), to_alpaca(given_answers))
    except DataError as error:
        assert "no examples" in str(error)
        return
    assert report["num_examples"] + report["num_rejected"] == len(pairs)
    assert report["num_unscored_predictions"] == report["num_rejected"]
    assert report["num_missing_predictions"] == report["num_rejected_predictions"] == 0
