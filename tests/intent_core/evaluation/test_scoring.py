import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intent_core.evaluation.call_matching import match_calls
from intent_core.evaluation.scoring import compare_calls, documents_score, slot_counts
from intent_core.language.calls import Argument, Call, parse_calls


def test_slots_count_repetition_and_position() -> None:
    calls = parse_calls("f(a,n=b,c);f(a)")
    assert slot_counts(calls) == {("f", 0, "a"): 2, ("f", "n", "b"): 1, ("f", 1, "c"): 1}


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("a();b(x)", "a();b(x)", (1, 0)),  # the correct answer is counted as wrong
        ("a();b(x)", "a()", (1, 1)),  # an answer without the second call is counted as right
        ("transfer(A,B)", "transfer(B,A)", (1, 1)),
        ("f(a,a)", "f(a)", (1, 1)),
        ("play(Hello (Live))", "play(Hello (Remix))", (1, 1)),
        ("weather_search(Hangzhou)", "weather_search (Hangzhou)", (0, 0)),
        ("weather_search(杭州)", "weather_search（杭州）", (0, 0)),
        ("music_exit()", "music_exit", (0, 0)),  # the script raises an exception here
        ("f(a)", "f(a]", (1, 1)),  # the last character is dropped unchecked
        ("f(a)", "f(b)", (1, 0)),
        ("f(a)", "g(a)", (0, 0)),
    ],
)
def test_documents_score_keeps_their_faults(
    gold: str, answer: str, expected: tuple[int, int]
) -> None:
    assert documents_score(gold, answer) == expected


def stated_by_the_documents(gold: str, answer: str) -> tuple[int, int] | None:
    """Apply the PAI guide's rule step by step; None where the script would raise an exception."""
    gold_call = gold.split(";")[0]
    names = [text.split("(")[0] for text in (gold_call, answer)]
    if names[0] != names[1]:
        return 0, 0
    parameters = []
    for text in (gold_call, answer):
        without_bracket = text.strip()[:-1]
        try:
            between = without_bracket.split("(")[1]
        except IndexError:
            return None
        parameters.append(sorted(set(between.split(","))))
    return 1, 1 if parameters[0] == parameters[1] else 0


NOISE = st.text(alphabet="ab(),; 杭（）", max_size=10)
CALL_LIKE = st.from_regex(r"[fg] ?\((a|b|杭|)(,(a|b))?\)?(;[fg]\((a|b)?\))? ?", fullmatch=True)
TEXTS = NOISE | CALL_LIKE


@given(TEXTS, TEXTS)
@example("f", "f")
@example("f(", "f(")
@example("f()", "f")
@example("f(a)", "f(a) ")
@example(" f(a)", "f(a)")
@example("f(a;b)", "f(a")
def test_documents_score_agrees_with_the_documents(gold: str, answer: str) -> None:
    stated = stated_by_the_documents(gold, answer)
    assert documents_score(gold, answer) == (stated if stated is not None else (0, 0))


ARGUMENTS = st.builds(
    Argument, value=st.sampled_from("ab"), name=st.sampled_from([None, None, "x"])
)
CALLS = st.lists(
    st.builds(
        Call,
        intent=st.sampled_from("fg"),
        arguments=st.lists(ARGUMENTS, max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


@given(CALLS, CALLS)
def test_each_rate_implies_the_weaker_one(gold: tuple[Call, ...], other: tuple[Call, ...]) -> None:
    compared = compare_calls(gold, other)
    assert compared.exact <= compared.parameters_right <= compared.intents_right
    assert compared.exact == (gold == other) == (compared.reason is None)


@given(CALLS, st.randoms(use_true_random=False))
def test_the_order_of_calls_costs_the_exact_match_only(
    gold: tuple[Call, ...], random: object
) -> None:
    shuffled = list(gold)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    compared = compare_calls(gold, shuffled)
    assert compared.parameters_right
    assert compared.reason == (None if tuple(shuffled) == gold else "wrong_order")


@given(CALLS, CALLS)
def test_matching_is_symmetric_and_leaves_no_call_out(
    gold: tuple[Call, ...], other: tuple[Call, ...]
) -> None:
    there, back = match_calls(gold, other), match_calls(other, gold)
    assert there.slot_hits == back.slot_hits
    assert sorted(str(pair) for pair in there.pairs) == sorted(str(p[::-1]) for p in back.pairs)
    assert sorted(g for g, _ in there.pairs if g) == sorted(call.intent for call in gold)
    assert sorted(p for _, p in there.pairs if p) == sorted(call.intent for call in other)
    # no matching has more right slots than the two have in common
    assert there.slot_hits <= (slot_counts(gold) & slot_counts(other)).total()


@given(CALLS, st.permutations(range(3)))
def test_matching_finds_the_best_of_all_ways(gold: tuple[Call, ...], order: list[int]) -> None:
    shuffled = [gold[n] for n in order if n < len(gold)]
    assert match_calls(gold, shuffled).slot_hits == slot_counts(gold).total()


@pytest.mark.parametrize(
    ("gold", "answer", "hits", "pairs"),
    [
        # a greedy matching from the left would pair f(a,b) with f(a,c): only 1 + 0 slots
        ("f(a,b);f(a,c)", "f(a,c);f(x,b)", 3, [("f", "f"), ("f", "f")]),
        ("a(1,2);a(3,4)", "a(1,4);a(3,2)", 2, [("a", "a"), ("a", "a")]),
        ("f(a);f(b)", "f(b)", 1, [("f", "f"), ("f", None)]),
        ("f(a)", "f(b);f(a)", 1, [("f", "f"), (None, "f")]),
        ("f(a);g(b)", "h(a);g(b)", 1, [("g", "g"), ("f", "h")]),
        ("f(x=a,y=b)", "f(y=b,x=c)", 1, [("f", "f")]),
    ],
)
def test_matching_by_hand(
    gold: str, answer: str, hits: int, pairs: list[tuple[str | None, str | None]]
) -> None:
    matched = match_calls(parse_calls(gold), parse_calls(answer))
    assert (matched.slot_hits, list(matched.pairs)) == (hits, pairs)


FAILURE_KINDS = {
    "wrong function name": ("查天气(杭州)", "查天色(杭州)", "wrong_intent", 0),
    "wrong function name among several": ("f(a);g(b)", "f(a);h(b)", "wrong_intent", 1),
    "wrong count, a call too few": ("f(a);f(b)", "f(a)", "missing_call", 1),
    "wrong count, a call too many": ("f(a)", "f(a);f(a)", "extra_call", 1),
    "missing parameter": ("f(a,b)", "f(a)", "missing_value", 1),
    "missing named parameter": ("f(x=a,y=b)", "f(y=b)", "missing_value", 1),
    "extra parameter": ("f(a)", "f(a,b)", "extra_value", 1),
    "unexpected parameter name": ("f(x=a)", "f(z=a)", "wrong_value", 0),
    "wrong value": ("订票(北京,明天)", "订票(北京,后天)", "wrong_value", 1),
    "wrong value in one of two calls": ("f(a);f(b)", "f(a);f(c)", "wrong_value", 1),
    "wrong type, a word for a number": ("f(3)", "f(三)", "wrong_value", 0),
    "wrong type, a list for a value": ("f(a)", "f([a])", "wrong_value", 0),
    "wrong format, a date": ("f(2024-01-02)", "f(2024/01/02)", "wrong_value", 0),
    "wrong format, letter case": ("f(VIP)", "f(vip)", "wrong_value", 0),
    "wrong order of parameters": ("f(a,b)", "f(b,a)", "wrong_order", 0),
    "wrong order of calls": ("f(a);g(b)", "g(b);f(a)", "wrong_order", 2),
}


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_every_kind_of_failure_has_its_reason(kind: str) -> None:
    gold, answer, reason, hits = FAILURE_KINDS[kind]
    compared = compare_calls(parse_calls(gold), parse_calls(answer))
    assert (compared.reason, compared.slot_hits, compared.exact) == (reason, hits, False)
