"""The generated reference pages match the models, the commands and the metrics."""

import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import generate
import pytest
from generate import DriftError, Texts

from flows.cli.terminal import parse_overrides
from flows.parameters import list_recipes, load_recipe

ROOT = Path(generate.__file__).parents[1]
MODELS, TEXTS = generate.read_models(), generate.read_texts()
ENTRIES = generate.merge(MODELS, TEXTS)
PROSE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = "\n".join(
    block
    for path in PROSE
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
)


def test_the_pages_are_what_make_docs_writes() -> None:
    for path, text in generate.make_pages(MODELS, TEXTS).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


@pytest.mark.parametrize("path", generate.PAGES.values(), ids=lambda path: path.name)
def test_a_page_has_every_field(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    for name in (*MODELS.keys, *MODELS.settings, *MODELS.pai):
        assert f"\n| `{name.rpartition('.')[2]}` | " in page


def test_every_field_has_texts_in_both_languages() -> None:
    for entry in ENTRIES.values():
        for text in [entry.what, entry.when] if entry.name in MODELS.keys else [entry.what]:
            assert text["en"], entry.name
            assert re.search(r"[\u4e00-\u9fff]", text["zh"]), entry.name


def test_both_pages_name_the_same_things() -> None:
    pages = [path.read_text(encoding="utf-8") for path in generate.PAGES.values()]
    english, chinese = (set(re.findall(r"`[^`\n]+`", page)) for page in pages)
    assert english == chinese


def test_every_secret_is_marked_as_one() -> None:
    ends = ("_TOKEN", "_SECRET", "API_KEY", "_DATABASE_URL")
    secrets = {name for name in MODELS.settings if name.endswith(ends)}
    for path, mark in zip(generate.PAGES.values(), ("**secret**", "**保密**"), strict=True):
        rows = path.read_text(encoding="utf-8").splitlines()
        marked = {row.split("`")[1] for row in rows if row.startswith("| `INTENT_") and mark in row}
        assert marked == secrets | {"INTENT_CANDIDATE_KEY"}


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_no_page_names_a_key_that_is_not_there(path: Path) -> None:
    named = re.findall(
        r"`(?:--set )?((?:data|train|evaluate|gate|serve)\.[a-z_0-9]+)", path.read_text()
    )
    assert set(named) <= MODELS.keys.keys()


@pytest.mark.parametrize("command", [line for line in SHELL.splitlines() if "--set" in line])
def test_a_command_of_the_page_is_one(command: str) -> None:
    words = shlex.split(command)
    options = dict(itertools.pairwise(words))
    sets = [value for option, value in itertools.pairwise(words) if option == "--set"]
    recipe = options.get("--recipe")
    # `music.yaml` and the like are files of the reader.
    load_recipe(recipe if recipe in list_recipes() else None, parse_overrides(sets))


def change(name: str, **texts: str) -> Texts:
    advice = TEXTS.recipe[name]
    zh = advice.zh.model_copy(update={k[3:]: v for k, v in texts.items() if k.startswith("zh_")})
    when = texts.get("when", advice.when)
    changed = advice.model_copy(update={"zh": zh, "when": when})
    return TEXTS.model_copy(update={"recipe": {**TEXTS.recipe, name: changed}})


def without(name: str) -> Texts:
    others = {key: advice for key, advice in TEXTS.recipe.items() if key != name}
    return TEXTS.model_copy(update={"recipe": others})


def with_one_more(name: str) -> Texts:
    more = {**TEXTS.settings, name: TEXTS.settings["INTENT_GATEWAY_HOST"]}
    return TEXTS.model_copy(update={"settings": more})


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: without("train.seed"), "train.seed: has no text in fields.yaml"),
        (lambda: with_one_more("INTENT_X"), "INTENT_X: in fields.yaml, but not in the program"),
        (lambda: change("gate.mode", when="Always."), "gate.mode: its English changed"),
        (lambda: change("train.seed", zh_what="取 42。"), "train.seed: in one language only: 42"),
        (lambda: change("train.seed", zh_when=""), "train.seed: a text is missing"),
        (lambda: change("serve.alias", when="See serve.name."), "unknown name serve.name"),
        (lambda: change("serve.alias", when="See `lora_dims`."), "unknown name lora_dims"),
        (lambda: change("serve.alias", when="See INTENT_FLEETS."), "unknown name INTENT_FLEETS"),
    ],
)
def test_what_drifted_is_told(make: Callable[[], Texts], fault: str) -> None:
    with pytest.raises(DriftError, match=re.escape(fault)):
        generate.make_pages(MODELS, make())


def test_a_field_without_a_docstring_is_told() -> None:
    bare = {"default": 1, "type": "integer"}
    models = MODELS._replace(keys={**MODELS.keys, "train.seed": bare})
    with pytest.raises(DriftError, match=r"train\.seed: a text is missing"):
        generate.make_pages(models, TEXTS)


def test_a_setting_of_pai_without_a_docstring_is_told() -> None:
    models = MODELS._replace(
        pai={**MODELS.pai, "INTENT_PAI_VPC": {"default": "", "type": "string"}}
    )
    with pytest.raises(DriftError, match="INTENT_PAI_VPC: a text is missing"):
        generate.make_pages(models, TEXTS)


def test_make_check_fails_on_a_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "reference.md"
    english = generate.PAGES["en"].read_text("utf-8")
    page.write_text(english.replace("Id of the VPC", "Id of a VPC"))
    monkeypatch.setattr(generate, "PAGES", {**generate.PAGES, "en": page})
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit, match=r"reference\.md: stale, run `make docs`"):
        generate.main()
    assert "Id of a VPC" in page.read_text("utf-8"), "a check writes nothing"


def test_a_page_without_a_table_is_told() -> None:
    with pytest.raises(DriftError, match="the page has no <!-- made: gate -->"):
        generate.fill("# Nothing\n", {"gate": ""})
