"""Whatever a vocabulary contains, its written file reads back, here and in other YAML readers."""

from pathlib import Path
from string import ascii_letters

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary
from intent_core.recipe.vocabulary_file import read_vocabulary
from intent_core.recipe.vocabulary_text import render_vocabulary

TRAPS = ["on", "no", "y", "null", "~", "1.0", "2024-05-01", "12:30", "a: b", "# x", "- x", "x #y"]
TRAPS += [
    "",
    " ",
    "a ",
    "x\ny",
    "\x00",
    "\x85",
    "\u2028",
    "\ufeff",
    "\u200b",
    "\uffff",
    "\U0001fffe",
]
TRAPS += [
    "'",
    '"',
    "\\",
    "%",
    "@",
    "*a",
    "&a",
    "!t",
    "|",
    ">",
    "{}",
    "[]",
    "?",
    "? x",
    "=",
    "<<",
    ",",
]
TRAPS += [
    "杭州",
    "高档：型",
    "😀",
    "é",
    "ｐ",
    "NaN",
    ".inf",
    "0x1f",
    "1_0",
    "\t",
    "---",
    "...",
    "x" * 2000,
]

texts = st.one_of(st.sampled_from(TRAPS), st.text())
names = st.one_of(
    st.sampled_from(["on", "no", "null", "y", "城市", "a.b-c", "x" * 1500]),
    st.text(ascii_letters, min_size=1),
)


@st.composite
def slots(draw: st.DrawFn) -> SlotEntry:
    kind = draw(st.sampled_from(["text", "number", "date", "one_of"]))
    spellings = draw(st.lists(texts, unique=True, min_size=1, max_size=6))
    values: dict[str, tuple[str, ...]] = {}
    if kind in ("text", "one_of"):
        count = draw(st.integers(1, len(spellings)))
        values = dict.fromkeys(spellings[:count], ()) | {spellings[0]: tuple(spellings[count:])}
    return SlotEntry(
        name=draw(names),
        description=draw(texts),
        type=kind,
        values=values,
        examples=tuple(draw(st.lists(texts, max_size=3))),
    )


entries = st.builds(
    IntentEntry,
    description=texts,
    order=st.sampled_from(["appearance", "fixed"]),
    examples=st.lists(texts, max_size=3).map(tuple),
    slots=st.lists(slots(), max_size=3, unique_by=lambda slot: slot.name).map(tuple),
)
vocabularies = st.builds(
    Vocabulary, intents=st.dictionaries(names, entries, min_size=1, max_size=3)
)


def write_and_read(
    tmp_path: Path, vocabulary: Vocabulary, remark: str = "guessed", title: str = "x"
) -> Vocabulary:
    places = [("intents", intent) for intent in vocabulary.intents]
    keys = ("name", "description", "type", "values", "examples")
    remarks = dict.fromkeys(places, remark)
    remarks |= {(*place, "slots", "0", key): remark for place in places for key in keys}
    path = tmp_path / "intents.yaml"
    path.write_text(render_vocabulary(vocabulary, remarks, title), encoding="utf-8")
    return read_vocabulary(path)


@given(vocabulary=vocabularies, remark=texts, title=texts)
def test_a_written_vocabulary_reads_back(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary, remark: str, title: str
) -> None:
    folder = tmp_path_factory.mktemp("vocabulary")
    assert write_and_read(folder, vocabulary, remark, title) == vocabulary


@given(st.lists(texts, unique=True, min_size=1))
def test_other_yaml_readers_take_every_scalar_as_text(values: list[str]) -> None:
    slot = SlotEntry(name="s", values=dict.fromkeys(values, ()), examples=tuple(values))
    vocabulary = Vocabulary(intents={"on": IntentEntry(slots=(slot,))})
    tree = yaml.safe_load(render_vocabulary(vocabulary, {}, ""))
    assert tree["intents"]["on"]["slots"][0]["examples"] == values
    assert list(tree["intents"]["on"]["slots"][0]["values"]) == values


def test_the_file_is_for_people(tmp_path: Path) -> None:
    slot = SlotEntry(
        name="城市", type="one_of", values={"杭州": ("HZ", "on"), "New York": ()}, examples=("1",)
    )
    entry = IntentEntry(order="fixed", examples=("杭州天气怎么样？",), slots=(slot,))
    vocabulary = Vocabulary(intents={"天气": entry, "bye": IntentEntry(description="Leave")})
    remarks = {
        ("intents", "天气"): "60 utterances",
        ("intents", "天气", "slots", "0", "values"): "guessed;\nlook",
    }
    assert (
        render_vocabulary(vocabulary, remarks, "First\nlines")
        == """# First
# lines
intents:
  天气:  # 60 utterances
    description: ""
    order: fixed
    examples:
      - "杭州天气怎么样？"
    slots:
      - name: 城市
        description: ""
        type: one_of
        values:  # guessed;\\u000alook
          杭州: [HZ, "on"]
          New York: []
        examples: ["1"]
  bye:
    description: Leave
"""
    )
