"""Any text is shown by Markdown renderers as that text, and as nothing else."""

import re
import string
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from intent_core.markdown import escape_markdown
from intent_core.quality.findings import Finding, render_findings

RENDERERS = (
    MarkdownIt("commonmark"),
    MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]),
)
PIECES = st.sampled_from(
    [
        *string.punctuation,
        *(
            " ",
            "\t",
            "\n",
            "    ",
            "a",
            "B",
            "1",
            "10",
            "www",
            "http",
            "https://",
            "中",
            "，",
            "x.y",
        ),
        *("&amp;", "<img src=x onerror=alert(1)>", "![x](https://evil.example/p.png)", "\u3000"),
        *("[a]: https://evil.example", "<https://evil.example>", "```", "---", "| a |", "\\\\"),
        *("user@evil.example", ":smile:", "mailto:a@b.c", "<!--", "&#60;", "\u2028", "_a_", "~~"),
    ]
)
LABELS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30)


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def as_one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("\0", "\ufffd").strip()


@given(label=LABELS)
@example(label="__a__ *b* _c_ d_e_f")
@example(label="1. a")
@example(label="# a")
@example(label="=")
@example(label="![x](https://evil.example/pixel.png) [Resume the run](https://evil.example)")
def test_a_label_is_shown_as_text(label: str) -> None:
    expected = as_one_line(label)
    for renderer in RENDERERS:
        for source, tags in (
            (f"{escape_markdown(label)}\n", ["p"]),
            (f"# {escape_markdown(label)}\n", ["h1"]),
            (f"Of {escape_markdown(label)} it is.\n", ["p"]),
        ):
            page = Page(renderer.render(source))
            assert page.tags in (tags, []) if not expected else page.tags == tags
            assert expected in "".join(page.text)


@given(label=LABELS)
def test_no_renderer_finds_a_link_in_it(label: str) -> None:
    """What marked and showdown look for in the source when they make links."""
    source = escape_markdown(label)
    assert not re.search(r"(?<!\\)://|www\.|[<>]|(?<!\\)[@\[\]]", source, re.IGNORECASE)


@given(label=LABELS, file=LABELS)
def test_a_label_stays_in_its_cell_of_the_data_check(label: str, file: str) -> None:
    finding = Finding(
        severity="warning",
        rule="label-errors",
        message=label,
        remedy=label,
        numbers={},
        places=label,
        file=file,
    )
    page = Page(RENDERERS[1].render(render_findings([finding], label)))
    assert page.tags == ["h1", *TABLE] if as_one_line(label) else True
    assert page.tags.count("td") == 5


TABLE = ["table", "thead", "tr", *["th"] * 5, "tbody", "tr", *["td"] * 5]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("intent_accuracy is 0.951 (minimum 0.9)", "intent_accuracy is 0.951 (minimum 0.9)"),
        ("export.manifest:3, 8-12", "export.manifest:3, 8-12"),
        ("查天气(杭州)", "查天气(杭州)"),
    ],
)
def test_ordinary_text_stays_readable(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped
