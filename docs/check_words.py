"""Find words and phrases of `word_list.yaml` in everything a person reads; exit with 1 if any.

    python docs/check_words.py [--count] [FILE]...

Reads the tracked files, or those named: prose and configuration as a whole, Markdown without its
inline code, Python's comments and strings of more than one word (of tests: comments and
docstrings). `--count` prints only the number of matches.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORD_LIST = Path(__file__).with_name("word_list.yaml")
SUFFIXES = {".md", ".yaml", ".yml", ".toml", ".json", ".sh", ".j2", ".html", ".js", ".css", ".conf"}
NAMES = {"Makefile", "Dockerfile", "run"}
# Data and other people's words.
LEFT_OUT = ("tests/data/", "deployments/sample/", "docs/word_list.yaml", "docs/check_words.py")
_INLINE_CODE = re.compile(r"`[^`\n]*`")


class Match(NamedTuple):
    """A word to avoid, where it was found."""

    file: str
    line: int
    text: str
    write: str


def list_files() -> list[Path]:
    """The tracked files that hold text for people."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and not name.startswith(LEFT_OUT)]


def read_prose(path: Path) -> str:
    """Return the file with the same lines; characters that are not prose become NUL."""
    if path.suffix == ".py":
        return _read_python(path)
    if path.suffix in SUFFIXES or path.name in NAMES:
        text = path.read_text(encoding="utf-8")
        return _INLINE_CODE.sub(_blank, text) if path.suffix == ".md" else text
    return ""


def _blank(match: re.Match[str]) -> str:
    return "\0" * len(match[0])


def _read_python(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    lines = [["\0"] * len(line) for line in source.splitlines()]
    docstrings = _list_docstring_lines(source)
    in_tests = path.is_relative_to(ROOT / "tests")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            if " " not in token.string or (in_tests and token.start[0] not in docstrings):
                continue
        elif token.type != tokenize.COMMENT:
            continue
        _copy(token, lines)
    return "\n".join("".join(line) for line in lines)


def _list_docstring_lines(source: str) -> set[int]:
    return {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def _copy(token: tokenize.TokenInfo, lines: list[list[str]]) -> None:
    """Quotes, comment signs and indentation become blanks, so that a phrase may cross them."""
    row, column = token.start
    for offset, part in enumerate(token.string.splitlines()):
        start = 0 if offset else column
        clean = re.sub(r"""^([fbru]*["']+|#+)|["']+$""", lambda m: " " * len(m[0]), part)
        lines[row - 1 + offset][start : start + len(part)] = clean
    if set(lines[row - 1][:column]) <= {"\0"}:
        lines[row - 1][:column] = " " * column


def find_matches(file: str, prose: str, avoid: dict[str, str]) -> Iterator[Match]:
    """Every match in a text, line by line."""
    rows = prose.split("\n")
    for pattern, write in avoid.items():
        spaced = pattern.replace(" ", r"[\s#]+")
        for match in re.finditer(rf"(?<![\w-])(?:{spaced})(?![\w-])", prose, re.IGNORECASE):
            line = prose.count("\n", 0, match.start())
            yield Match(file, line + 1, rows[line].replace("\0", "").strip(), write)


def find_all(files: list[Path], word_list: dict[str, Any]) -> tuple[list[Match], list[str]]:
    """The matches that no exception covers, and the exceptions that cover nothing."""
    unused = {(entry["file"], entry["text"]): entry["why"] for entry in word_list["keep"]}
    exceptions, matches = dict(unused), []
    for path in files:
        file = path.relative_to(ROOT).as_posix()
        for match in find_matches(file, read_prose(path), word_list["avoid"]):
            covering = [key for key in exceptions if key[0] == file and key[1] in match.text]
            for key in covering:
                unused.pop(key, None)
            if not covering:
                matches.append(match)
    return matches, [f"{file}: {text}" for file, text in unused]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", type=Path, help="only these; all tracked files if none")
    parser.add_argument("--count", action="store_true", help="print the number of matches only")
    options = parser.parse_args()
    files = [path.resolve() for path in options.files] or list_files()
    matches, unused = find_all(files, yaml.safe_load(WORD_LIST.read_text(encoding="utf-8")))
    if options.count:
        sys.stdout.write(f"{len(matches)}\n")
        return
    lines = [
        f"{match.file}:{match.line}: {match.text}\n    write: {match.write}"
        for match in sorted(matches)
    ]
    if not options.files:
        lines += [f"{WORD_LIST.name}: this exception matches nothing: {text}" for text in unused]
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
