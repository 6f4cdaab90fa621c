"""Quotes as keyboards type them are read as quotes, and reported; apostrophes stay plain."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.errors import CallSyntaxError
from intent_core.exports.files.json_rows import RowFault
from intent_core.exports.label_repair import read_label
from intent_core.exports.reader import read_answer, read_export
from intent_core.exports.row_answer import RowAnswer
from intent_core.language.calls import Argument, Call
from intent_core.recipe.config import DataConfig

CASE = Path(__file__).parents[2] / "data/cases/03-typed-quotes/export.manifest"
RIGHT = [
    'play_music("你好，再见")',
    'play_music("Hello, Goodbye")',
    "play_music(artist=Adele)",
    "play_music(十年)",
    "play_music(artist=周杰伦)",
]
PAIRS = [
    *(
        "“”",
        "‘’",
        "''",
        "＂＂",
        "「」",
        "『』",
        "《》",
        "〈〉",
        "„“",
        "„”",
        "‚‘",
        "«»",
        "‹›",
        "〝〞",
    ),
    *('“"', '"”', "““", "””", "‘'", "'’", "＇＇", "``", "´´", "﹁﹂", "❝❞"),
]


def test_the_case_has_its_right_value() -> None:
    reading = read_export(CASE, DataConfig())
    assert [record.output for record in reading.records] == RIGHT
    assert [(report.line, report.kind) for report in reading.reports] == [
        (line, "typed-quotes") for line in range(1, 6)
    ]
    strict = read_export(CASE, DataConfig(tolerate=()))
    assert [rejection.reason for rejection in strict.rejections] == ["typed-quotes"] * 5
    assert all("data.tolerate" in rejection.message for rejection in strict.rejections)


@pytest.mark.parametrize("pair", [*PAIRS, ('\\"', '\\"')])
@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("a({})", (None,)),
        ("a( {} )", (None,)),
        ("a({} , {})", (None, None)),
        ("a（{}，{}）", (None, None)),
        ("a(s={})", (None,)),
        ("a(s = {}, t＝{})", (None, None)),
        ("a(x,{},y)", ("x", None, "y")),
        ("a({});b({})", (None, None)),
        ("a({});", (None,)),
    ],
)
def test_every_pair_in_every_position(
    pair: str, label: str, values: tuple[str | None, ...]
) -> None:
    for inner in ("x", "x, y", "你好，再见", "x;y", "a(b", "a)b", "p＝q", "x=y", "三体"):
        reading = read_label(label.format(*[f"{pair[0]}{inner}{pair[1]}"] * 2))
        read = [argument.value for call in reading.calls for argument in call.arguments]
        assert read == [inner if value is None else value for value in values]
        assert "typed-quotes" in reading.slips


@pytest.mark.parametrize(
    "text",
    [
        "a(don't)",
        "a('Til I Die)",
        "a(rock 'n' roll)",
        "a('90s)",
        "a('Til I Die,Beach Boys)",
        "a('Til I Die,'Til You)",
        "a('n' roll)",
        "a(dogs')",
        "a(the dogs' home,cats')",
        "a(don’t)",
        "a(‘Til I Die)",
        "a(’90s)",
        "a(rock ’n’ roll)",
        "a(O'Brien,D'Angelo)",
        "a(l'amour,l'été)",
        "a(《三体》第一部)",
        "a(《a》、《b》)",
        "a(“x”y)",
        "a(x“y”)",
        "a(“x”“y”)",
        "a(say “hi” now,b)",
        'a(say "hi" now,b)',
        "a(1＋1＝2)",
        "a(x y＝z)",
        "a(“x)",
        "a(x”)",
        'a(6" pipe,8" bolt)',
        'a("x“, y”")',
    ],
)
def test_what_stays_plain(text: str) -> None:
    reading = read_label(text)
    assert (reading.canonical, reading.slips) == (text, ())


@pytest.mark.parametrize("text", ["a('Til I Die, 'Til You)", "a( x , 'y )", 'a("x" , \'y)'])
def test_blanks_alone_are_no_slip(text: str) -> None:
    assert read_label(text).slips == ()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("a(‘don’t stop, go’)", 'a("don’t stop, go")'),
        ("a('it's, x')", 'a("it\'s, x")'),
        ("a(it's, 'x, y')", 'a(it\'s,"x, y")'),
        ("a('90s',x)", "a(90s,x)"),
        ("a(“say ‘hi, you’”)", 'a("say ‘hi, you’")'),
        ("a(“say “hi” now”)", "a(say “hi” now)"),
        ("a(say “hi, you” now)", 'a("say “hi, you” now")'),
        ('a(say "hi, you" now)', 'a("say \\"hi, you\\" now")'),
        ("a(《三体，前传》第一部)", 'a("《三体，前传》第一部")'),
        ("a(“a”和“b，c”)", 'a("“a”和“b，c”")'),
        ("a(x（“y，z”）)", 'a("x（“y，z”）")'),
        ('a(“x"y”)', 'a(x"y)'),
        ("a(“x\\y”)", 'a("x\\\\y")'),
        ("a(“”,「」,'')", 'a("","","")'),
        ('a(artist＝"x,y")', 'a(artist="x,y")'),
        ("a(a＝b＝c)", "a(a=b＝c)"),
        ("a(“a”，‘b’，「c」，《d》)", "a(a,b,c,d)"),
        ("a('x, y'", 'a("x, y")'),
    ],
)
def test_quotes_within_and_around(text: str, canonical: str) -> None:
    reading = read_label(text)
    assert reading.canonical == canonical
    assert "typed-quotes" in reading.slips


@pytest.mark.parametrize("text", ["a(“x，y)", "a(《x,y)", "a(「x，y,z)", "a(x“y,z)", 'a("x,y)'])
def test_a_quote_that_is_never_closed_before_a_comma_is_refused(text: str) -> None:
    with pytest.raises(CallSyntaxError, match=r"column .* closing"):
        read_label(text)


VALUES = st.text("ab你 ,，;；()（）=＝!？", max_size=8)


# A plain quote that opens two values has two readings.
@given(
    st.sampled_from([pair for pair in PAIRS if pair[0] != '"']),
    st.lists(st.tuples(VALUES, st.sampled_from(["", "s="])), min_size=1),
    st.sampled_from([",", "，", " , "]),
)
def test_a_value_in_quotes_is_one_value(
    pair: str, arguments: list[tuple[str, str]], comma: str
) -> None:
    typed = comma.join(f"{name}{pair[0]}{value}{pair[1]}" for value, name in arguments)
    calls = read_label(f"f({typed})").calls
    expected = tuple(Argument(value=v, name="s" if name else None) for v, name in arguments)
    assert calls == (Call(intent="f", arguments=expected),)


@given(st.text("ab'\"“”‘’《》「」,，()=＝\\ ;", max_size=14))
def test_a_reading_is_stable(text: str) -> None:
    try:
        reading = read_label(f"f({text})")
    except CallSyntaxError:
        return
    again = read_label(reading.canonical)
    assert (again.calls, again.canonical, again.slips) == (*reading[:2], ())


@pytest.mark.parametrize("unit", ["“a,", "'a,", "‘a,", ' "a,', "《a,", '\\"a,', "`a,", "(“", "„a,"])
def test_a_long_label_ends(unit: str) -> None:
    for text in (f"f({unit * 5000}", f"f({unit * 5000})"):
        fault = read_answer({"instruction": "x", "output": text[:20_000]}, DataConfig())
        assert isinstance(fault, RowFault | RowAnswer)


@pytest.mark.parametrize(
    ("utterance", "label", "output"),
    [
        ("play Crazy=genius", "play(Crazy=genius)", "play(Crazy=genius)"),
        ("play crazy = genius", "play(crazy=genius)", "play(crazy=genius)"),
        ("播放ａ＝ｂ", "play(a=b)", "play(a=b)"),
        ("say it", "calc(E=mc2)", "calc(E=mc2)"),
    ],
)
def test_an_equals_sign_that_may_belong_to_the_value(
    utterance: str, label: str, output: str
) -> None:
    answer = read_answer({"instruction": utterance, "output": label}, DataConfig())
    assert isinstance(answer, RowAnswer)
    assert answer.output == output
    assert [note.kind for note in answer.notes] == ["named-value"]


@pytest.mark.parametrize(
    "label", ["play(artist=Adele)", "play(artistName=x)", "play(歌手=x)", 'calc("E=mc2")']
)
def test_a_slot_is_not_reported(label: str) -> None:
    answer = read_answer({"instruction": "E=mc2, Adele", "output": label}, DataConfig())
    assert isinstance(answer, RowAnswer)
    assert answer.notes == ()
