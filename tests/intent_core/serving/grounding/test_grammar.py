"""Which answers a grammar accepts, token by token in xgrammar, as in vLLM."""

import json
import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent_core.language.calls import Argument, Call, format_calls, parse_calls
from intent_core.language.invisible import strip_invisible
from intent_core.language.vocabulary import Vocabulary
from intent_core.serving.grounding.grammar import (
    MOST_CHARACTERS,
    UngroundableError,
    write_grammar,
)
from intent_core.serving.grounding.policy import GroundingPolicy, learn_policy
from tests.support.processes.grammar_judge import GrammarJudge

DATA = Path(__file__).parents[3] / "data"

TEXTS = st.text(max_size=30) | st.text(
    "ab Zé1 ,;()=\"\\，；（）\n\t\u3000\u2028\x00\x7f\x85'’‑-北京가ก\u0301👨\u200d👩\ufe0f\u200b",
    max_size=30,
)


def learn(*rows: tuple[str, str], vocabulary: Vocabulary | None = None) -> GroundingPolicy:
    return learn_policy([(text, parse_calls(label)) for text, label in rows], vocabulary)


def read_rows(path: Path) -> list[tuple[str, tuple[Call, ...]]]:
    text = path.read_text(encoding="utf-8")
    rows = map(json.loads, text.splitlines()) if path.suffix == ".jsonl" else json.loads(text)
    return [(row["instruction"], parse_calls(row["output"])) for row in rows]


MUSIC = learn(
    ("play a by b", "play(a,b)"),
    ("stop", "stop()"),
    ("at five, wake me", "alarm(time=five)"),
    ("sing", "out_of_scope()"),
)


def accepts(
    judge: GrammarJudge, utterances: str | Sequence[str], *answers: str, **options: object
) -> list[bool]:
    texts = [utterances] if isinstance(utterances, str) else utterances
    return judge.judge(write_grammar(MUSIC, texts, **options), *answers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("utterance", "accepted", "refused"),
    [
        (
            "play Let It Be",
            ["play(Let It Be)", "play(play,Let,Be)", "stop()", "play()", "alarm(time=It,time=Let)"],
            ["play(Let Be)", "play(let)", "play(L)", "sing()", "play(Let It Be", "stop(Be)", ""],
        ),
        ("don't, U.S. 5pm", ["play(don't,U.S.,5)", 'play("don\'t, U.S.")'], ["play(don't, U.S.)"]),
        (
            "我要听“晴天”（现场）",
            ["play(晴天)", 'play("晴天”（现场）")', 'play("（")'],
            ["play(晴天”（现场）)", "play(雨天)", "alarm(晴天)"],
        ),
        ('say "hi" \\ =', ['play("\\"hi\\"")', 'play(hi")', 'play("\\\\ =")'], ['play("hi")"']),
        ("", ["stop()", "play()"], ["play(a)", 'play("")']),
        (" \n ", ["stop()"], ["play( )"]),
        ("a\ud83db c", ["play(a,b c)"], ["play(ab)"]),
        ("a\u200bb", ["play(ab)"], ["play(a\u200bb)"]),
    ],
)
def test_values_are_parts_of_the_utterance(
    judge: GrammarJudge, utterance: str, accepted: list[str], refused: list[str]
) -> None:
    assert accepts(judge, utterance, *accepted) == [True] * len(accepted)
    assert accepts(judge, utterance, *refused) == [False] * len(refused)


def test_values_keep_the_order_of_the_utterance_only_if_all_labels_do(judge: GrammarJudge) -> None:
    answers = "play(a,b)", "play(b,a)", "play(a b,b)", "play(b,b)"
    assert accepts(judge, "play a b", *answers) == [True, False, False, False]
    assert accepts(judge, "play a, b b", *answers) == [True, False, False, True]
    assert accepts(judge, ["a", "b"], *answers) == [True, False, False, False]
    long = "play " + "b " * 40
    assert accepts(judge, f"{long} a", "play(a,b)", "play(b,a)", "play(c)") == [True, True, False]
    free = learn(("play b by a", "play(a,b)"), ("play a by b", "play(a,b)"))
    assert judge.judge(write_grammar(free, ["play a b"]), *answers) == [True] * 4


def test_several_calls_are_accepted_only_if_labels_do(judge: GrammarJudge) -> None:
    assert accepts(judge, "play x", "play(x);stop()") == [False]
    several = learn(("play a and stop", "play(a);stop()"))
    answers = "play(x);stop()", "stop();stop();play(x)", "stop();", ";stop()"
    said = judge.judge(write_grammar(several, ["play x"]), *answers)
    assert said == [True, True, False, False]


def test_all_messages_of_the_user_are_read_each_by_itself(judge: GrammarJudge) -> None:
    answers = "play(x y,z)", "play(y z)", 'play("y\\nz")'
    assert accepts(judge, ["play x y", "z now"], *answers) == [True, False, False]


def test_a_caller_can_narrow_the_intents(judge: GrammarJudge) -> None:
    answers = "play(x)", "stop()", "out_of_scope()"
    assert accepts(judge, "x", *answers) == [True, True, True]
    assert accepts(judge, "x", *answers, intents={"stop", "?"}) == [False, True, True]
    narrow: dict[str, object] = {"intents": {"stop"}, "allow_out_of_scope": False}
    assert accepts(judge, "x", *answers, **narrow) == [False, True, False]
    with pytest.raises(UngroundableError, match="none of the intents"):
        write_grammar(MUSIC, ["x"], intents=[], allow_out_of_scope=False)


def test_values_of_the_vocabulary_and_exceptions_of_labels_are_accepted(
    judge: GrammarJudge,
) -> None:
    size = {"name": "size", "type": "one_of", "values": {"large, hot": ["big"]}}
    vocabulary = Vocabulary.model_validate({"intents": {"order": {"slots": [size]}}})
    policy = learn(
        ("a big one", 'order("large, hot")'), ("tea", "order(Tee)"), vocabulary=vocabulary
    )
    answers = 'order("large, hot",tea,Tee)', "order(large)", "order(Tea)"
    assert judge.judge(write_grammar(policy, ["tea"]), *answers) == [True, False, False]


def test_an_intent_that_does_not_copy_accepts_any_value(judge: GrammarJudge) -> None:
    rows = [(f"in {n} days", f"wait(2026-01-{n:03}x)") for n in range(70)]
    policy = learn(*rows, ("play a", "play(a)"))
    answers = (
        "wait(天,a b)",
        'wait("a,\\"\\u0001")',
        "wait( a)",
        "wait(a )",
        "wait(a;b)",
        "play(天)",
    )
    said = judge.judge(write_grammar(policy, ["b"]), *answers)
    assert said == [True, True, False, False, False, False]


def test_a_long_text_has_no_grammar() -> None:
    write_grammar(MUSIC, ["a" * (MOST_CHARACTERS // 2)] * 2)
    with pytest.raises(UngroundableError, match=f"{MOST_CHARACTERS + 1} characters"):
        write_grammar(MUSIC, ["a" * MOST_CHARACTERS, "b"])


@given(texts=st.lists(TEXTS, max_size=3), draw=st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_every_part_is_accepted_and_nothing_else(
    judge: GrammarJudge, texts: list[str], draw: random.Random
) -> None:
    grammar = write_grammar(MUSIC, texts)
    visible = [strip_invisible(text) for text in texts]
    parts = [[text[u.start : u.end] for u in MUSIC.reader.list_units(text)] for text in visible]
    chosen = draw.choice([index for index, units in enumerate(parts) if units] or [-1])
    if chosen == -1:
        assert judge.judge(grammar, "play()", "play(x)", "alarm()") == [True, False, True]
        return
    units = MUSIC.reader.list_units(visible[chosen])
    first, last = sorted(draw.choices(range(len(units)), k=2))
    value = visible[chosen][units[first].start : units[last].end]
    before = [*chain(*parts[:chosen]), *parts[chosen][:first]]
    longest = [*chain(*parts)]
    answers = [
        write_call("play", *before, value),
        write_call("alarm", value, *before, name="time"),
        write_call("play", *longest, value),
        write_call("play", f"{value}\u03c8"),
    ]
    is_long = len(longest) > 40  # then the order is not kept
    assert judge.judge(grammar, *answers) == [True, True, is_long, False]


def write_call(intent: str, *values: str, name: str | None = None) -> str:
    arguments = tuple(Argument(value=value, name=name) for value in values)
    return format_calls([Call(intent=intent, arguments=arguments)])


@pytest.mark.parametrize(
    ("name", "num_learned", "step"),
    [
        ("snips_en/train.json", 60, 1),
        ("crosswoz_zh/train.json", 60, 1),
        ("crosswoz_zh/all.jsonl", 1200, 8),
    ],
)
def test_every_label_is_accepted(
    judge: GrammarJudge, name: str, num_learned: int, step: int
) -> None:
    rows = read_rows(DATA / name)
    policy = learn_policy(rows[:num_learned], None)
    assert policy.is_copied
    known = {intent.intent for intent in policy.intents}
    for text, label in rows[num_learned::step]:
        is_known = known.issuperset(call.intent for call in label)
        assert judge.judge(write_grammar(policy, [text]), format_calls(label)) == [is_known], text
