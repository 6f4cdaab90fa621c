"""Writes any text as plain text in Markdown, for every renderer that shows our pages.

Prefect's page uses marked and decodes five entities by name only; MLflow's descriptions use
showdown, where a backslash escapes some characters only. What is used here works in both, and in
CommonMark.
"""

import re

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
_SYNTAX = re.compile(
    r"[\\`*\[\]|~@]"
    # An underscore between letters or digits is not emphasis.
    r"|(?<![^\W_])_|_(?![^\W_])"
    # At the start of a text: headings, underlines, rules and lists.
    r"|^[#=]|^-(?=[- \t]|$)|^\+(?=[ \t]|$)"
    # Links that renderers find by themselves: a scheme, `www.`.
    r"|:(?=//)|(?<=www)\."
    # Emoji by name, and images.
    r"|:(?=[\w+-]+:)|!(?=\[)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=[ \t]|$)")


def escape_markdown(text: str) -> str:
    """Return a text on one line that every renderer of Markdown shows as it is.

    It is safe in a paragraph, a heading and a cell of a table.

    Args:
        text: any text, such as a label or an utterance.
    """
    line = " ".join(text.splitlines()).strip(" \t")
    escaped = _NUMBERED.sub(r"\1\\\2", _SYNTAX.sub(r"\\\g<0>", line))
    return re.sub("[&<>\0]", lambda match: _ENTITIES[match[0]], escaped)
