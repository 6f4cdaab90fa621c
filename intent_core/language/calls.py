"""The call syntax of labels and model answers: `weather_search(Hangzhou);music_exit()`.

    calls     = call { ";" call } [ ";" ]
    call      = intent "(" [ argument { "," argument } ] ")"
    argument  = [ slot "=" ] value
    value     = plain | quoted
    intent    = one or more characters except whitespace, control characters and  , ; ( ) = " \\
    slot      = a letter or "_", then letters, digits, "_", "-", "."
    plain     = non-empty text without  , ;  that does not start with a quote; its parentheses
                must balance, and a comma inside them belongs to the value
    quoted    = '"' { any character but " and \\ | escape } '"'
    escape    = \\" | \\\\ | \\n | \\r | \\t | \\u and four hex digits

Whitespace around every part is dropped. Outside quotes the full-width （ ） ， ； mean ( ) , ;
(inside the parentheses of a plain value they are kept, and a parenthesis must be closed by one of
the same width). `format_calls` quotes every value whose plain form could be misread, so
`parse_calls(format_calls(calls)) == calls`. An empty list of calls is formatted as the empty text,
which does not parse: an empty answer is not valid.

Invisible characters that carry no meaning (`invisible.py`) are part of the text here: who reads a
label or an answer removes them first. `format_calls` writes those in a value as escapes, such as
`"\\u200b"`.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NoReturn, Self

from pydantic import BaseModel, ConfigDict, model_validator

from intent_core.errors import CallSyntaxError
from intent_core.language.invisible import (
    fold_invisible,
    may_have_invisible,
    replace_invisible,
    strip_invisible,
)

OUT_OF_SCOPE = "out_of_scope"
"""The intent of an answer that recognises nothing."""

_INTENT = re.compile(r'[^\s\x00-\x1f\x7f-\x9f,;()="\\，；（）]+')
_SLOT = re.compile(r"[^\W\d][\w.\-]*")
_SLOT_SIGN = re.compile(rf"({_SLOT.pattern})\s*=")
_BLANKS = re.compile(r"\s*")
_PLAIN_STOP = re.compile(r"[,;()，；（）]")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Syntax characters, and characters that would break a line-oriented file or a terminal.
_NEEDS_QUOTES = re.compile(r'^"|[\x00-\x1f\x7f\x85\u2028\u2029,;()=\\，；（）]')
_NEEDS_ESCAPE = re.compile(r'[\x00-\x1f\x7f\x85\u2028\u2029"\\]')

# Possessive quantifiers: no backtracking, so a text that is not plain fails after one pass.
_PLAIN_VALUE = r'(?![\s"])[^\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff,;()=\\，；（）]++(?<!\s)'
_PLAIN_CALL = rf"{_INTENT.pattern}+\((?:{_PLAIN_VALUE}(?:,{_PLAIN_VALUE})*+)?+\)"
_PLAIN_CALLS = re.compile(rf"{_PLAIN_CALL}(?:;{_PLAIN_CALL})*+")

# The same for most labels: nothing that may be a typed quote or invisible.
# Listed, not excluded: a set of characters that ends is matched faster.
_ORDINARY = r"!#-&*+\-./0-:<>?@A-Z\[\]^_a-z{|}~'`\xc0-\u024f\u4e00-\u9fff"
_ORDINARY_VALUE = rf"(?![ '`])[ {_ORDINARY}]++(?<! )"
_ORDINARY_CALL = rf"[{_ORDINARY}]++\((?:{_ORDINARY_VALUE}(?:,{_ORDINARY_VALUE})*+)?+\)"
_ORDINARY_CALLS = re.compile(rf"{_ORDINARY_CALL}(?:;{_ORDINARY_CALL})*+")

_CLOSER = {"(": ")", "（": "）"}
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPED = {character: f"\\{letter}" for letter, character in _UNESCAPED.items()}


def check_intent_name(name: str) -> str:
    """Return the name; raise `ValueError` if a call cannot have this intent."""
    if not _INTENT.fullmatch(name):
        raise ValueError(
            f"{name!r} is not an intent name: remove whitespace, control characters and "
            ', ; ( ) = " \\'
        )
    return name


def check_slot_name(name: str) -> str:
    """Return the name; raise `ValueError` if an argument cannot have it."""
    if not _SLOT.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a slot name: use letters, digits, '_', '-' and '.', "
            "starting with a letter or '_'"
        )
    return name


class Argument(BaseModel):
    """One value of a call, with its slot name if the label states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str
    name: str | None = None

    @model_validator(mode="after")
    def _is_writable(self) -> Self:
        if _SURROGATE.search(self.value):
            raise ValueError(f"value {self.value!r} contains an unpaired UTF-16 surrogate")
        if self.name is not None:
            check_slot_name(self.name)
        return self


class Call(BaseModel):
    """One intent with its arguments, in order of appearance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intent: str
    arguments: tuple[Argument, ...] = ()

    @model_validator(mode="after")
    def _intent_has_no_syntax(self) -> Self:
        check_intent_name(self.intent)
        return self


def parse_calls(text: str) -> tuple[Call, ...]:
    """Parse one or more calls.

    Args:
        text: calls in the syntax of this module.

    Raises:
        CallSyntaxError: the text is not a list of calls; the message gives the column.
    """
    return _Reader(text).read_calls()


def format_calls(calls: Iterable[Call], *, quoted: bool = False) -> str:
    """Return calls in canonical form; an empty list gives "".

    Args:
        calls: the calls, in order.
        quoted: put every value in quotes, also where its plain form could not be misread.
    """
    return ";".join(
        f"{call.intent}({','.join(_format_argument(a, quoted) for a in call.arguments)})"
        for call in calls
    )


def is_out_of_scope(calls: Sequence[Call]) -> bool:
    """Return whether the only call is `out_of_scope()`.

    Args:
        calls: the calls of a label or an answer.
    """
    return len(calls) == 1 and calls[0].intent == OUT_OF_SCOPE


def sort_named(calls: Iterable[Call]) -> tuple[Call, ...]:
    """Return calls in the form in which they are compared: named arguments have no order.

    Unnamed arguments keep their order and come first; named ones follow, by name and value.

    Args:
        calls: the calls, in order.
    """
    return tuple(map(_sort_arguments, calls))


def fold_label(label: str) -> str:
    """Return the form of a label that is equal for all labels with the same meaning.

    Labels may differ in the order of named arguments, in invisible characters, and in composed or
    decomposed letters (Unicode NFC).

    Args:
        label: calls in canonical form; other text is folded, too.
    """
    if not label.isascii():
        label = unicodedata.normalize("NFC", fold_invisible(label))
    if "=" not in label:
        return label
    try:
        return format_calls(sort_named(parse_calls(label)))
    except CallSyntaxError:
        return label


def _sort_arguments(call: Call) -> Call:
    named = [argument for argument in call.arguments if argument.name is not None]
    if not named:
        return call
    unnamed = [argument for argument in call.arguments if argument.name is None]
    named.sort(key=lambda argument: (argument.name, argument.value))
    return call.model_copy(update={"arguments": (*unnamed, *named)})


def is_plain(text: str) -> bool:
    """Return True if one fast regex match proves that a text is in canonical form.

    True for calls whose values need no quotes and have no slot names, as in most labels. False
    does not mean that the text is not canonical.

    Args:
        text: calls as text.
    """
    if _PLAIN_CALLS.fullmatch(text) is None:
        return False
    return text.isascii() or not may_have_invisible(text)


def is_ordinary(text: str) -> bool:
    """Return True if a text is plain and has only Latin and Han, without a quote around a value.

    Such a text has no typed quote and no invisible character either: it needs no further check.

    Args:
        text: calls as text.
    """
    return _ORDINARY_CALLS.fullmatch(text) is not None


def _format_argument(argument: Argument, quoted: bool) -> str:
    value = argument.value
    if (
        quoted
        or not value
        or value != strip_invisible(value).strip()
        or _NEEDS_QUOTES.search(value)
    ):
        value = f'"{_NEEDS_ESCAPE.sub(_escape, value)}"'
        value = replace_invisible(value, _escape_character)
    return value if argument.name is None else f"{argument.name}={value}"


def _escape(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[0]) or _escape_character(match[0])


def _escape_character(character: str) -> str:
    # The escape has four digits. Others remain as they are.
    return f"\\u{ord(character):04x}" if character <= "\uffff" else character


_Argument = tuple[str, str | None]

# One set for all models, which cannot change: an export has millions of them.
_CALL_FIELDS, _ARGUMENT_FIELDS = set(Call.model_fields), set(Argument.model_fields)


def _make_call(intent: str, arguments: Iterable[_Argument]) -> Call:
    """Return a call of parts that were read, and so are valid."""
    made = tuple(
        Argument.model_construct(_ARGUMENT_FIELDS, value=value, name=name)
        for value, name in arguments
    )
    return Call.model_construct(_CALL_FIELDS, intent=sys.intern(intent), arguments=made)


class _Reader:
    """Reads calls from a text and advances a position in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def read_calls(self) -> tuple[Call, ...]:
        surrogate = _SURROGATE.search(self._text)
        if surrogate:
            self._position = surrogate.start()
            self._fail("a valid character, not an unpaired UTF-16 surrogate")
        calls = [self._read_call()]
        while self._take(";；") and not self._at_end():
            calls.append(self._read_call())
        if not self._at_end():
            self._fail("';' or the end")
        # Models are built only now: a text that fails, and a long one may, costs a fraction.
        return tuple(_make_call(intent, arguments) for intent, arguments in calls)

    def _read_call(self) -> tuple[str, list[_Argument]]:
        self._skip_blanks()
        intent = _INTENT.match(self._text, self._position)
        if not intent:
            self._fail("an intent name")
        self._position = intent.end()
        if not self._take("(（"):
            self._fail("'('")
        if self._take(")）"):
            return intent[0], []
        arguments = [self._read_argument()]
        while self._take(",，"):
            arguments.append(self._read_argument())
        if not self._take(")）"):
            self._fail("',' or ')'")
        return intent[0], arguments

    def _read_argument(self) -> _Argument:
        self._skip_blanks()
        slot = _SLOT_SIGN.match(self._text, self._position)
        if slot:
            self._position = slot.end()
            self._skip_blanks()
        quoted = self._text.startswith('"', self._position)
        value = self._read_quoted() if quoted else self._read_plain()
        return value, slot[1] if slot else None

    def _read_quoted(self) -> str:
        quoted = _QUOTED.match(self._text, self._position)
        if not quoted:
            self._fail("a closing '\"' for the quote that starts here")
        value = _ESCAPE.sub(self._unescape, quoted[1])
        self._position = quoted.end()
        return value

    def _unescape(self, match: re.Match[str]) -> str:
        escape = match[1]
        character = chr(int(escape[1:], 16)) if len(escape) == 5 else _UNESCAPED.get(escape)
        if character is None or _SURROGATE.match(character):
            self._position += 1 + match.start()
            self._fail('one of the escapes \\" \\\\ \\n \\r \\t \\uXXXX')
        return character

    def _read_plain(self) -> str:
        start = self._position
        closers: list[str] = []
        while stop := _PLAIN_STOP.search(self._text, self._position):
            self._position = stop.start()
            if not closers and stop[0] in ",，)）":
                break
            self._enter_or_leave(stop[0], closers)
            self._position = stop.end()
        else:
            self._position = len(self._text)
        value = self._text[start : self._position].strip()
        if not value:
            self._fail('a value (write "" for an empty value)')
        return value

    def _enter_or_leave(self, character: str, closers: list[str]) -> None:
        if character in ";；":
            self._fail("')' (put a value that contains ';' in quotes)")
        if character in _CLOSER:
            closers.append(_CLOSER[character])
        elif character in ")）" and closers.pop() != character:
            self._fail("a closing parenthesis of the same width as the opening one")

    def _skip_blanks(self) -> None:
        if not self._text[self._position : self._position + 1].isspace():
            return
        blanks = _BLANKS.match(self._text, self._position)
        self._position = blanks.end() if blanks else self._position

    def _take(self, characters: str) -> bool:
        self._skip_blanks()
        sign = self._text[self._position : self._position + 1]
        if not sign or sign not in characters:
            return False
        self._position += 1
        return True

    def _at_end(self) -> bool:
        self._skip_blanks()
        return self._position == len(self._text)

    def _fail(self, expected: str) -> NoReturn:
        rest = self._text[self._position :]
        actual = repr(rest[:12]) if rest else "the end"
        near = repr(self._text if len(self._text) <= 120 else self._text[:117] + "...")
        message = f"column {self._position + 1}: expected {expected}, found {actual} in {near}"
        raise CallSyntaxError(message, is_at_end=not rest)
