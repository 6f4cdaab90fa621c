from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from intent_core.language.calls import parse_calls
from intent_core.language.intent_schema import list_intents
from intent_core.language.vocabulary import IntentEntry, SlotEntry, Vocabulary
from intent_core.language.vocabulary_copy import list_vocabulary, write_copy
from intent_core.recipe.vocabulary_file import read_vocabulary

names = st.sampled_from(["weather_search", "播放音乐", "a", "on"])
texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.dictionaries(texts.filter(bool), st.just(()), max_size=3)
slots = st.builds(SlotEntry, name=names, description=texts, values=values)
intents = st.dictionaries(names, st.builds(IntentEntry, description=texts, slots=st.tuples(slots)))


@given(intents.filter(bool))
def test_a_copy_is_the_vocabulary(known: dict[str, IntentEntry]) -> None:
    vocabulary = Vocabulary(intents=known)
    copy = write_copy(vocabulary)
    assert Vocabulary.model_validate_json(copy) == vocabulary
    assert write_copy(Vocabulary.model_validate_json(copy)) == copy


def test_a_copy_can_be_the_vocabulary_of_a_recipe(tmp_path: Path) -> None:
    slot = SlotEntry(name="city", type="one_of", values={"on": ("1.0", "2024-05-01"), "杭州": ()})
    vocabulary = Vocabulary(intents={"no": IntentEntry(order="fixed", slots=(slot,))})
    (tmp_path / "intents.json").write_bytes(write_copy(vocabulary))
    assert read_vocabulary(tmp_path / "intents.json") == vocabulary


def test_a_copy_does_not_spell_out_defaults() -> None:
    copy = write_copy(Vocabulary(intents={"greet": IntentEntry()}))
    assert copy == b'{\n "intents": {\n  "greet": {}\n }\n}\n'


def test_labels_without_a_vocabulary_have_their_intents_and_named_slots() -> None:
    labels = ["weather_search(Hangzhou,date=today)", "weather_search(city=Hangzhou);greet()"]
    known = list_vocabulary(list_intents(map(parse_calls, labels)))
    assert known is not None
    shown = {intent: [s.name for s in entry.slots] for intent, entry in known.intents.items()}
    assert shown == {"greet": [], "weather_search": ["city", "date"]}
    assert list_vocabulary([]) is None
