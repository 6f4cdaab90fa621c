"""Drafts of answers: what they say, and how many steps they save on real labels."""

import pytest
from tokenizers import Tokenizer

from intent_core.language.calls import format_calls, parse_calls
from intent_core.serving.drafting.length import MOST_TOKENS, choose_length
from tests.intent_core.serving.drafting.conftest import MARKS, Draftsman, read_rows

END = "<|im_end|>"
WEATHER = [
    (f"will it rain in {city} {day}", f"get_weather({city},{day})")
    for city in ("Hangzhou", "Boston", "New York", "San Jose")
    for day in ("today", "next week", "on Friday")
]
MUSIC = [(f"please play {song} now", f"play({song})") for song in ("Yellow", "La La", "So What")]
STOP = [("stop the music please", "stop()"), ("please stop it", "stop()")]
CLOSED = [(f"{verb} the light", f"switch({state})") for verb, state in (("open", "on"),) * 4]
NAMED = [
    (f"fly from {a} to {b}", f"fly(from={a},to={b})")
    for a in ("Rome", "Oslo", "Paris")
    for b in ("Boston", "Lima")
]
TWO = [
    (f"rain in {city} and play {song}", f"get_weather({city});play({song})")
    for city in ("Rome", "Oslo", "Paris")
    for song in ("Yellow", "So What")
]
QUOTED = [(f"play {a}, {b} now", f'play("{a}, {b}")') for a in ("one", "two") for b in ("x", "y")]


@pytest.mark.parametrize(
    ("labels", "utterance", "start", "rest"),
    [
        (WEATHER, "will it rain in Los Angeles today", "get", "_weather(Los Angeles,today)" + END),
        # A value that the answer begins is continued, wherever the utterance has it.
        (WEATHER, "will it rain in Rome or Oslo today", "get_weather(Os", "lo,today)" + END),
        (WEATHER, "will it rain in Los Angeles today", "get_weather(Los Angeles,", "today)" + END),
        (WEATHER + MUSIC, "please play Blue now", "play(", "Blue)" + END),
        (STOP + MUSIC, "stop it please", "st", "op()" + END),
        (STOP + MUSIC, "stop it please", "stop()", END),
        (CLOSED, "open the light", "switch(", "on)" + END),
        (NAMED, "fly from Cairo to Lima", "fly(", "from=Cairo,to=Lima)" + END),
        (NAMED, "fly from Cairo to Lima", "fly(from=Cairo,to=", "Lima)" + END),
        (TWO, "rain in Cairo and play Blue", "get", "_weather(Cairo);play(Blue)" + END),
        (QUOTED, "play one, y now", 'play("', 'one, y")' + END),
    ],
)
def test_a_draft_says_how_the_labels_go_on(
    tokenizer: Tokenizer, labels: list[tuple[str, str]], utterance: str, start: str, rest: str
) -> None:
    rows = [(text, parse_calls(label)) for text, label in labels * 3]
    assert Draftsman(tokenizer, rows).draft(utterance, start) == rest


@pytest.mark.parametrize(
    "answer",
    ["I am sorry", "get_weather)", "(", "play(Blue))", "play(Blue)x", "play(Bl\ufffd", ";"],
)
def test_an_answer_that_is_no_call_gets_no_draft(tokenizer: Tokenizer, answer: str) -> None:
    rows = [(text, parse_calls(label)) for text, label in MUSIC * 3]
    assert Draftsman(tokenizer, rows).draft("please play Blue now", answer) == ""


def test_other_tokens_of_a_prompt_do_not_matter(tokenizer: Tokenizer) -> None:
    rows = [(text, parse_calls(label)) for text, label in WEATHER * 3]
    draftsman = Draftsman(tokenizer, rows)
    ids = draftsman.ids("will it rain in Rome today", "get")
    drafter, plain = draftsman.drafter, draftsman.drafter.draft(ids)
    # Another system prompt; an earlier turn; a prompt of another form; an answer that has ended.
    assert drafter.draft([7, 7, *ids[len(MARKS.opening) :]]).ids == plain.ids
    assert drafter.draft([*MARKS.opening, *draftsman.encode("hi"), *MARKS.closing, *ids]).ids
    assert drafter.draft(ids[: len(MARKS.opening)]).ids == ()
    assert drafter.draft([*ids, MARKS.end]).ids == ()


def test_the_rest_of_a_right_draft_is_kept(tokenizer: Tokenizer) -> None:
    rows = [(text, parse_calls(label)) for text, label in WEATHER * 3]
    draftsman = Draftsman(tokenizer, rows)
    ids = draftsman.ids("will it rain in Rome today", "get")
    draft = draftsman.drafter.draft(ids)
    rest = draftsman.drafter.draft([*ids, *draft.ids[:3]])
    assert rest.ids == draft.ids[3:]
    assert rest.chances == tuple(chance / draft.chances[2] for chance in draft.chances[3:])


def test_another_answer_to_the_same_prompt_gets_its_own_draft(tokenizer: Tokenizer) -> None:
    rows = [(text, parse_calls(label)) for text, label in WEATHER * 3]
    draftsman = Draftsman(tokenizer, rows)
    utterance = "will it rain in Rome or Oslo today"
    first = draftsman.draft(utterance, "get")
    assert draftsman.draft(utterance, "get_weather(Os") == "lo,today)" + END
    assert draftsman.draft(utterance, "get") == first
    assert draftsman.draft(utterance, "get_weather(Rome or Oslo,") == "today)" + END


def test_the_end_of_a_long_utterance_is_used(tokenizer: Tokenizer) -> None:
    rows = [(text, parse_calls(label)) for text, label in WEATHER * 3]
    draftsman = Draftsman(tokenizer, rows)
    utterance = "will it rain in Oslo today " * 500 + "will it rain in Rome today"
    assert draftsman.draft(utterance, "get_weather(R") == "ome,today)" + END


@pytest.mark.parametrize(("name", "most"), [("snips_en", 0.25), ("crosswoz_zh", 0.25)])
def test_rows_that_were_not_learned_need_few_steps(
    tokenizer: Tokenizer, name: str, most: float
) -> None:
    rows = read_rows(name)
    draftsman = Draftsman(tokenizer, [row for n, row in enumerate(rows) if n % 10])
    counts = [draftsman.count_steps(text, format_calls(calls)) for text, calls in rows[::10]]
    assert sum(steps for _, steps in counts) < most * sum(tokens for tokens, _ in counts)


def test_a_full_batch_drafts_only_what_is_almost_certain() -> None:
    chances = [0.99, 0.98, 0.7, 0.6, 0.5, 0.2, 0.1, 0.05]
    lengths = [choose_length(chances, rows) for rows in (1, 4, 16, 64, 256)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]
    assert choose_length([1.0] * 99, 1) == MOST_TOKENS
    assert choose_length([0.01], 1) == choose_length([], 1) == 0
