"""Read Markdown pages: headings, links, fenced blocks, and the commands in them."""

import re
import shlex
import textwrap
from pathlib import Path, PurePath
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "docker/README.md")),
    ROOT / "clients/python/README.md",
    *(ROOT / "benchmarks").glob("*.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deployments").rglob("README.md")),
]
TWINS = [
    (ROOT / "README.md", ROOT / "README.zh.md"),
    *((page, ROOT / "docs" / "zh" / page.name) for page in sorted((ROOT / "docs/en").glob("*.md"))),
]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"(<< *'?(\w+)'?[^\n]*\n).*?^\2$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_a-z][A-Z_a-z0-9]*=")
_OPERATORS = "();<>|&\n"


class Block(NamedTuple):
    """Language and text of a fenced block."""

    language: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def read_blocks(page: Path) -> list[Block]:
    return [
        Block(language, textwrap.dedent(text)) for _, language, text in _FENCE.findall(read(page))
    ]


def read_prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def read_code(page: Path) -> list[str]:
    """Return the inline code of the page."""
    return [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", read_prose(page))]


def read_headings(page: Path) -> list[tuple[int, str]]:
    """Return level and text of each heading."""
    found = re.findall(r"^(#+) +(.+?) *$", read_prose(page), re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def read_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    anchors: set[str] = set(re.findall(r'<a id="([^"]+)"></a>', read(page)))
    for _, text in read_headings(page):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 1
        while (anchor := slug if number == 1 else f"{slug}-{number - 1}") in anchors:
            number += 1
        anchors.add(anchor)
    return anchors


def read_links(page: Path) -> list[str]:
    """Return the targets of links and pictures, except those on other hosts."""
    prose = re.sub(r"`[^`\n]*`", "", read_prose(page))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def read_shell(page: Path) -> list[str]:
    return [block.text for block in read_blocks(page) if block.language in ("bash", "sh")]


def without_comments(shell: str) -> str:
    """Return the lines without comments and blank lines."""
    lines = (line.rstrip() for line in _COMMENT.sub("", shell).splitlines())
    return "\n".join(line for line in lines if line)


def split_commands(shell: str) -> list[list[str]]:
    """Return the words of every simple command, without comments and here-documents."""
    text = _COMMENT.sub("", _HERE_DOCUMENT.sub(r"\1", shell)).replace("\\\n", " ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    commands: list[list[str]] = [[]]
    is_file = False
    for word in lexer:
        if word.strip(_OPERATORS):
            commands[-1] += [] if is_file else [word]
            is_file = False
        elif is_file := "<" in word or ">" in word:
            continue
        else:
            commands.append([])
    return [words for words in map(_strip_assignments, commands) if words]


def list_commands(page: Path) -> list[list[str]]:
    return [words for shell in read_shell(page) for words in split_commands(shell)]


def find_arguments(words: list[str], program: str) -> list[str] | None:
    """Return the arguments of `program` in a command; None if the command does not call it."""
    for place, word in enumerate(words):
        starts = place == 0 or words[place - 1] in ("--", "with-secrets", "setup")
        if starts and PurePath(word).name == program:
            return words[place + 1 :]
        if program == "intent" and words[place : place + 2] == ["-m", "flows"]:
            return words[place + 2 :]
    return None


def _strip_assignments(words: list[str]) -> list[str]:
    while words and (words[0] == "export" or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    return words
