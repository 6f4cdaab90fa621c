"""The grammar of one request's answers: known intents, values that are parts of the utterance.

The grammar is EBNF as xgrammar reads it. Parts of an utterance are one chain of rules, a rule a
unit (`spans.py`), that all intents share: `t3` is the text from the fourth unit on, to where it may
end. So a grammar grows with the utterance and with the intents, never with their product, and is
compiled in milliseconds.

Values are written as `calls.py` writes them: plain, or in quotes with escapes where the plain form
could be misread. The quoted form has a chain of its own, made only if something needs quotes.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from intent_core.language.calls import OUT_OF_SCOPE, Argument, Call, format_calls
from intent_core.language.invisible import strip_invisible
from intent_core.serving.grounding.policy import GroundingPolicy, IntentPolicy
from intent_core.serving.grounding.spans import UtterancePart

MOST_CHARACTERS = 800
"""Of the utterances of a request. Longer ones have no grammar: it would cost more than it gives.
A Chinese text of 2,000 characters takes 100 times as long to compile as one of 200."""

_SPECIAL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029,;()=\\，；（）]")
"""What no plain value has; a quote is special only where a value begins."""
_ESCAPED_IN_QUOTES = re.compile(r'[\x00-\x1f\x7f\x85\u2028\u2029"\\]')
_UNWRITABLE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029]')
_ESCAPES = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Any value, for intents whose labels do not copy.
_FREE_RULES = r"""
free ::= "\"" quotedpart* "\"" | freestart (freepart* freeend)?
quotedpart ::= [^"\\\x00-\x1f] | "\\" ["\\nrt] | "\\u" [0-9a-f] [0-9a-f] [0-9a-f] [0-9a-f]
freestart ::= [^"\x00-\x20\x7f\u0085\u00a0\u2028\u2029\u3000,;()=\\，；（）]
freepart ::= [^\x00-\x1f\x7f\u0085\u2028\u2029,;()=\\，；（）]
freeend ::= [^\x00-\x20\x7f\u0085\u00a0\u2028\u2029\u3000,;()=\\，；（）]
""".strip()


class UngroundableError(ValueError):
    """A request for which there is no grammar; its answer is not bound."""


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
    sayable = [
        intent
        for intent in policy.intents
        if (allow_out_of_scope and intent.intent == OUT_OF_SCOPE)
        or (intent.intent != OUT_OF_SCOPE and (intents is None or intent.intent in intents))
    ]
    if not sayable:
        raise UngroundableError("none of the intents asked for is one of the model's")
    chains = _Chains(policy, texts)
    return "\n".join(_write_rules(sayable, chains, is_single=policy.most_calls == 1))


def _write_rules(
    intents: Iterable[IntentPolicy], chains: "_Chains", *, is_single: bool
) -> Iterable[str]:
    """Yield the rules. vLLM recognizes the syntax by the first one, the root."""
    yield "root ::= call" if is_single else 'root ::= call (";" call)*'
    groups = defaultdict[_Arguments, list[str]](list)
    for intent in intents:
        groups[_Arguments.of(intent, is_empty=not chains.has_spans)].append(intent.intent)
    names = list(groups)
    yield "call ::= " + " | ".join(
        f'({" | ".join(map(_quote, sorted(groups[arguments])))}) "("'
        f'{f" a{index}?" if arguments.has_values else ""} ")"'
        for index, arguments in enumerate(names)
    )
    for index, arguments in enumerate(names):
        yield from arguments.write(index)
    if any(arguments.is_free for arguments in names):
        yield _FREE_RULES
    if any(arguments.has_spans for arguments in names):
        yield from chains.write()


class _Arguments(NamedTuple):
    """What can be in the parentheses; intents with the same share one rule."""

    has_spans: bool
    is_free: bool
    is_named: bool
    names: tuple[str, ...]
    listed: tuple[str, ...]

    @classmethod
    def of(cls, intent: IntentPolicy, *, is_empty: bool) -> "_Arguments":
        """`is_empty` if the utterance has no span."""
        return cls(
            has_spans=intent.has_values and not intent.is_free and not is_empty,
            is_free=intent.is_free,
            is_named=intent.is_named,
            names=intent.names if intent.has_values else (),
            listed=() if intent.is_free else intent.listed,
        )

    @property
    def has_values(self) -> bool:
        return self.has_spans or self.is_free or bool(self.listed)

    def write(self, index: int) -> Iterable[str]:
        if not self.has_values:
            return
        values = [
            *(["v"] if self.has_spans else []),
            *(["free"] if self.is_free else []),
            *(_quote(_format_value(value)) for value in self.listed),
        ]
        if not self.names:
            value, values = (values[0], []) if len(values) == 1 else (f"b{index}", values)
        else:
            value = f"b{index}"
            names = " | ".join(_quote(f"{name}=") for name in self.names)
            sign = f"({names}){'' if self.is_named else '?'} "
            values = [f"{sign}({' | '.join(values)})"]
        yield f'a{index} ::= {value} ("," {value})*'
        if values:
            yield f"{value} ::= {' | '.join(values)}"


def _format_value(value: str, *, quoted: bool = False) -> str:
    call = Call(intent="x", arguments=(Argument(value=value),))
    return format_calls([call], quoted=quoted)[2:-1]


class _Chains:
    """The rules of the parts of some utterances."""

    def __init__(self, policy: GroundingPolicy, texts: Sequence[str]) -> None:
        self._text = "\n".join(texts)
        self._units = [
            unit
            for unit in policy.reader.list_units(self._text)
            if not _UNWRITABLE.search(self._text, *unit)
        ]
        # No part goes from one message to the next.
        ends, position = set[int](), 0
        for text in texts:
            position += len(text) + 1
            ends.add(position - 1)
        self._message_ends = ends

    @property
    def has_spans(self) -> bool:
        return bool(self._units)

    def write(self) -> Iterable[str]:
        plain = [not _SPECIAL.search(self._text, *unit) for unit in self._units]
        gaps = [self._gap(unit, following) for unit, following in pairwise(self._units)] + [None]
        starts = [
            f"t{index}"
            for index, (unit, is_plain) in enumerate(zip(self._units, plain, strict=True))
            if is_plain and not self._text.startswith('"', unit.start)
        ]
        needs_quotes = self._needs_quotes(plain, gaps)
        yield "v ::= " + " | ".join([*starts, *(['"\\"" q "\\""'] if needs_quotes else [])])
        for index, (unit, gap) in enumerate(zip(self._units, gaps, strict=True)):
            if plain[index]:
                goes_on = gap is not None and not _SPECIAL.search(gap) and plain[index + 1]
                yield f"t{index} ::= " + _link(
                    self._read(unit), gap if goes_on else None, f"t{index + 1}"
                )
        if needs_quotes:
            yield "q ::= " + " | ".join(f"q{index}" for index in range(len(self._units)))
            for index, (unit, gap) in enumerate(zip(self._units, gaps, strict=True)):
                yield f"q{index} ::= " + _link(
                    _inside_quotes(self._read(unit)),
                    None if gap is None else _inside_quotes(gap),
                    f"q{index + 1}",
                )

    def _needs_quotes(self, plain: Sequence[bool], gaps: Sequence[str | None]) -> bool:
        return (
            not all(plain)
            or any(self._text.startswith('"', unit.start) for unit in self._units)
            or any(gap and _SPECIAL.search(gap) for gap in gaps)
        )

    def _gap(self, unit: UtterancePart, following: UtterancePart) -> str | None:
        """Return the text between two units; None if no part contains both."""
        gap = self._text[unit.end : following.start]
        is_between = any(end in self._message_ends for end in range(unit.end, following.start))
        return None if is_between or _UNWRITABLE.search(gap) else gap

    def _read(self, unit: UtterancePart) -> str:
        return self._text[unit.start : unit.end]


def _link(text: str, gap: str | None, following: str) -> str:
    if gap is None:
        return _quote(text)
    return f"{_quote(text)} ({f'{_quote(gap)} ' if gap else ''}{following})?"


def _inside_quotes(text: str) -> str:
    """Return a text with the escapes of a quoted value."""
    return _ESCAPED_IN_QUOTES.sub(lambda match: _format_value(match[0], quoted=True)[1:-1], text)


def _quote(text: str) -> str:
    """Return a text as a string of EBNF."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"
