"""The word check finds what it lists, where it is read, and nothing else; the site builds."""

import shutil
import subprocess
import sys
from pathlib import Path

import check_words
import pytest
import yaml

ROOT = check_words.ROOT
WORDS = yaml.safe_load(check_words.WORD_LIST.read_text(encoding="utf-8"))


def find(path: Path) -> list[int]:
    matches = check_words.find_matches(path.name, check_words.read_prose(path), WORDS["avoid"])
    return sorted(match.line for match in matches)


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.md", "One.\nThe server knows it.\n`nobody` is code.\n", [2]),
        ("a.md", "A phrase goes\non across lines.\n", [1]),
        ("a.py", '"""Nobody reads."""\nnobody = "nobody"\n# beside it\n', [1, 3]),
        ("a.py", 'raise Error(\n    "the run goes "\n    f"on {x}"\n)\n', [2]),
        ("a.py", "x = 1  # plain\n", []),
        ("a.json", '{"description": "Whoever looks"}', [1]),
        ("a.txt", "nobody", []),
    ],
)
def test_words_are_found_where_people_read_them(
    name: str, text: str, lines: list[int], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert find(path) == lines


def test_strings_of_tests_are_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_words, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    path = tmp_path / "tests" / "test_a.py"
    path.write_text('"""Nobody reads."""\nsays = "nobody is told"\n', encoding="utf-8")
    assert find(path) == [1]


def test_an_exception_covers_its_line_only_and_must_match() -> None:
    (path,) = [path for path in check_words.list_files() if path.name == "automations.yaml"]
    matches, unused = check_words.find_all([path], WORDS)
    assert not matches
    assert not [text for text in unused if text.startswith("deployments/automations.yaml")]
    uncovered, _ = check_words.find_all([path], {**WORDS, "keep": []})
    assert uncovered
    wrong = {**WORDS, "keep": [{"file": "README.md", "text": "not there", "why": "a test"}]}
    assert check_words.find_all([path], wrong)[1] == ["README.md: not there"]


def test_each_rewrite_has_a_replacement() -> None:
    assert all(isinstance(write, str) and write for write in WORDS["avoid"].values())
    assert all(entry["why"] for entry in WORDS["keep"])


@pytest.mark.parametrize(("language", "config"), [("en", "mkdocs.yml"), ("zh", "mkdocs.zh.yml")])
def test_the_site_builds_with_search_and_no_broken_link(
    language: str, config: str, tmp_path: Path
) -> None:
    for name in ("mkdocs.yml", "mkdocs.zh.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in (language, "theme"):
        shutil.copytree(ROOT / "docs" / folder, tmp_path / "docs" / folder)
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "-f", config],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    site = tmp_path / "site" / language
    pages = {path.stem for path in (ROOT / "docs" / language).glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert "vLLM" in (site / "search.json").read_text(encoding="utf-8")
    page = (site / "training.html").read_text(encoding="utf-8")
    assert all(f'href="../{other}/training.html" hreflang' in page for other in ("en", "zh"))
