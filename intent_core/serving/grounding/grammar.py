"""The grammar of one request's answers: known intents, values that are parts of the utterance.

The grammar is EBNF for xgrammar. The rules for parts of the utterance are shared by all intents
(`chains.py`), so a grammar grows with the utterance and with the intents, never with their product,
and is compiled in milliseconds.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from intent_core.language.calls import OUT_OF_SCOPE
from intent_core.language.invisible import strip_invisible
from intent_core.serving.grounding.chains import UtteranceChains, format_value, quote
from intent_core.serving.grounding.policy import GroundingPolicy, IntentPolicy

MOST_CHARACTERS = 800
"""Of a request's utterances. Longer ones have no grammar: it would take too long to compile."""
_MOST_ORDERED_UNITS = 40
"""Of a request's utterances in which values must keep the order. Compiling such a grammar takes
time that grows with the square of the units: 50 Chinese characters 6 ms, 200 already 270 ms."""

# Any value, for intents whose labels do not copy.
_FREE_RULES = r"""
free ::= "\"" quotedpart* "\"" | freestart (freepart* freeend)?
quotedpart ::= [^"\\\x00-\x1f] | "\\" ["\\nrt] | "\\u" [0-9a-f] [0-9a-f] [0-9a-f] [0-9a-f]
freestart ::= [^"\x00-\x20\x7f\u0085\u00a0\u2028\u2029\u3000,;()=\\，；（）]
freepart ::= [^\x00-\x1f\x7f\u0085\u2028\u2029,;()=\\，；（）]
freeend ::= [^\x00-\x20\x7f\u0085\u00a0\u2028\u2029\u3000,;()=\\，；（）]
""".strip()


class UngroundableError(ValueError):
    """A request without a grammar; its answer is not bound."""


def write_grammar(
    policy: GroundingPolicy,
    utterances: Sequence[str],
    *,
    intents: Collection[str] | None = None,
    allow_out_of_scope: bool = True,
) -> str:
    """Return the grammar of a request's answers, in EBNF for xgrammar.

    Args:
        policy: what the model's labels allow.
        utterances: the messages of the user, the first one first.
        intents: the only intents of an answer besides `out_of_scope`; None for all.
        allow_out_of_scope: whether an answer can be `out_of_scope()`, if labels are.

    Raises:
        UngroundableError: the utterances are too long, or no intent remains.
    """
    texts = [strip_invisible(text) for text in utterances]
    length = sum(map(len, texts))
    if length > MOST_CHARACTERS:
        raise UngroundableError(
            f"the user's messages have {length} characters: no grammar is made for more than "
            f"{MOST_CHARACTERS}"
        )
    allowed = [
        intent
        for intent in policy.intents
        if (allow_out_of_scope and intent.intent == OUT_OF_SCOPE)
        or (intent.intent != OUT_OF_SCOPE and (intents is None or intent.intent in intents))
    ]
    if not allowed:
        raise UngroundableError("none of the intents asked for is one of the model's")
    chains = UtteranceChains(policy.reader, texts)
    # vLLM recognizes the syntax by the first rule.
    root = "root ::= call" if policy.most_calls == 1 else 'root ::= call (";" call)*'
    keeps_order = policy.keeps_order and len(chains) <= _MOST_ORDERED_UNITS
    return "\n".join([root, *_write_calls(allowed, chains, keeps_order=keeps_order)])


def _write_calls(
    intents: Iterable[IntentPolicy], chains: UtteranceChains, *, keeps_order: bool
) -> Iterator[str]:
    names = defaultdict[_Arguments, list[str]](list)
    for intent in intents:
        names[_Arguments.of(intent, has_parts=len(chains) > 0)].append(intent.intent)
    calls, rules = [], []
    for index, arguments in enumerate(names):
        rule, more = arguments.write(index, keeps_order=keeps_order)
        rules += more
        group = " | ".join(map(quote, names[arguments]))
        calls.append(f'({group}) "(" {f"{rule}? " if rule else ""}")"')
    yield f"call ::= {' | '.join(calls)}"
    yield from rules
    yield from _write_values(names, chains, keeps_order=keeps_order)


def _write_values(
    groups: Iterable["_Arguments"], chains: UtteranceChains, *, keeps_order: bool
) -> Iterator[str]:
    """Yield the rules of values that the groups refer to."""
    groups = list(groups)
    if any(group.is_free for group in groups):
        yield _FREE_RULES
    grounded = [group for group in groups if group.has_parts]
    if any(group.is_simple and keeps_order for group in grounded):
        yield from chains.write_lists("s")
    if any(not (group.is_simple and keeps_order) for group in grounded):
        yield from chains.write_values("v")


class _Arguments(NamedTuple):
    """What can be in the parentheses; intents with the same share the rules."""

    has_parts: bool
    """Whether values are parts of the utterance."""
    is_free: bool
    names: tuple[str, ...]
    is_named: bool
    listed: tuple[str, ...]

    @classmethod
    def of(cls, intent: IntentPolicy, *, has_parts: bool) -> Self:
        return cls(
            has_parts=has_parts and intent.has_values and not intent.is_free,
            is_free=intent.is_free,
            names=intent.names,
            is_named=intent.is_named,
            listed=() if intent.is_free else intent.listed,
        )

    @property
    def is_simple(self) -> bool:
        """Whether every argument is a part of the utterance and nothing else."""
        return self.has_parts and not self.names and not self.listed

    def write(self, index: int, *, keeps_order: bool) -> tuple[str, list[str]]:
        """Return the rule of the arguments, "" if there are none, and the rules that it needs."""
        values = [
            *(["v"] if self.has_parts else []),
            *(["free"] if self.is_free else []),
            *(quote(format_value(value)) for value in self.listed),
        ]
        if not values:
            return "", []
        if self.is_simple and keeps_order:
            return "s0", []
        argument = f"{self._write_names()}({' | '.join(values)})"
        return f"a{index}", [
            f'a{index} ::= b{index} ("," b{index})*',
            f"b{index} ::= {argument}",
        ]

    def _write_names(self) -> str:
        if not self.names:
            return ""
        names = " | ".join(quote(f"{name}=") for name in self.names)
        return f"({names}){'' if self.is_named else '?'} "
