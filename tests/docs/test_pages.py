"""Links of the pages resolve, both languages agree, and safe commands print what is shown."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docs.markdown_pages import (
    PAGES,
    ROOT,
    TWINS,
    Block,
    find_arguments,
    name_of,
    read,
    read_anchors,
    read_blocks,
    read_headings,
    read_links,
    read_prose,
    split_commands,
    without_comments,
)

SHELL = {"bash", "sh"}
COMMENTED = {*SHELL, "crontab", "toml", "yaml"}
DRAWING = "txt"
"""The language of a block that is a drawing or a tree, whose words are translated."""
MOST_PAGES, MOST_README_LINES = 15, 160


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in read_links(page):
        target, _, anchor = link.partition("#")
        to = (page.parent / target).resolve() if target else page
        assert to.exists(), link
        if anchor and to.suffix == ".md":
            assert anchor in read_anchors(to), link


def test_the_pages_are_the_same_few_in_both_languages() -> None:
    english, chinese = (
        {page.name for page in (ROOT / "docs" / language).glob("*.md")} for language in ("en", "zh")
    )
    assert english == chinese and len(english) <= MOST_PAGES
    for readme in ("README.md", "README.zh.md"):
        assert len(read(ROOT / readme).splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_page_is_two_clicks_from_the_readme(language: str) -> None:
    readme = ROOT / ("README.md" if language == "en" else "README.zh.md")
    first = {(ROOT / link.partition("#")[0]).resolve() for link in read_links(readme)}
    pages = set((ROOT / "docs" / language).glob("*.md"))
    index = ROOT / "docs" / language / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in read_links(index)}
    assert index in first
    assert pages <= first | linked


@pytest.mark.parametrize("page", [p for p, _ in TWINS if p.parent.name == "en"], ids=name_of)
def test_a_page_opens_with_what_its_reader_can_do(page: Path) -> None:
    opening = read_prose(page).split("\n\n")[1].replace("\n", " ")
    assert re.match(r"(After (reading )?|From )this page,? you can ", opening), opening


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: page.name)
def test_twins_say_the_same(english: Path, chinese: Path) -> None:
    ours, theirs = read_blocks(english), read_blocks(chinese)
    assert [block.language for block in ours] == [block.language for block in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one.language in COMMENTED:
            assert without_comments(one.text) == without_comments(other.text)
        elif one.language != DRAWING:
            assert one.text == other.text
    levels = [[level for level, _ in read_headings(page)] for page in (english, chinese)]
    assert levels[0] == levels[1]
    linked = [set(map(_as_english, read_links(page))) for page in (english, chinese)]
    assert linked[0] == linked[1]


def _as_english(link: str) -> str:
    link = link.partition("#")[0].replace("docs/zh/", "docs/en/").replace("../en/", "")
    return "README" if link.startswith("README") else link


def is_safe(shell: str) -> bool:
    """Return whether a block uses no server and writes only to its working directory."""
    return all(map(_is_safe_command, split_commands(shell)))


def _is_safe_command(words: list[str]) -> bool:
    arguments = find_arguments(words, "intent")
    if arguments is None:
        return words[0] in ("cat", "head")
    asks = {"--least-certain", "--from-predictions", "--prelabel"} & set(arguments)
    safe = ("check", "convert", "manifest", "score", "vocabulary", "--help")
    return arguments[0] in safe and not asks


def list_runs() -> list[tuple[Path, list[tuple[str, str]]]]:
    """Return by page the blocks that are safe to run, each with the output below it."""
    found = []
    for page, _ in TWINS:
        blocks = read_blocks(page)
        runs = [
            (block.text, shown.text if shown.language == "text" else "")
            for block, shown in itertools.pairwise([*blocks, Block("", "")])
            if block.language in SHELL and is_safe(block.text)
        ]
        if runs:
            found.append((page, runs))
    return found


def test_some_pages_have_commands_to_run() -> None:
    (runs,) = [runs for page, runs in list_runs() if page.name == "labelled-data.md"]
    assert len(runs) > 3 and all(shown for _, shown in runs)


@pytest.mark.timeout(600)  # runs several programs one after the other
@pytest.mark.parametrize(("page", "runs"), list_runs(), ids=lambda one: getattr(one, "name", ""))
def test_safe_commands_do_what_the_page_shows(
    page: Path, runs: list[tuple[str, str]], tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    for shell, shown in runs:
        done = subprocess.run(
            ["sh", "-e"],
            input=shell,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for line in shown.splitlines():
            assert line in done.stdout, done.stdout
