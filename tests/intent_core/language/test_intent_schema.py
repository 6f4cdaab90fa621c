"""The intent schema of a dataset's labels."""

from intent_core.language.calls import parse_calls
from intent_core.language.intent_schema import list_intents


def test_intents_are_counted_by_utterance_and_values_by_call() -> None:
    (a, b) = list_intents([parse_calls("a();a(x)"), parse_calls("b(n=x)"), parse_calls("a()")])
    assert (a.intent, a.num_utterances, a.slot_counts, a.slot_names) == ("a", 2, {0: 2, 1: 1}, {})
    assert (b.slot_counts, b.slot_names) == ({1: 1}, {"n": 1})
