"""The pipeline's data step reads an export and a fixed test set of any format."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.datasets.manifest import read_split
from intent_core.errors import DataError
from intent_core.recipe.config import DataConfig
from tasks.datasets.fetch import fetch_export
from tasks.datasets.prepare import prepare_dataset
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import work_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("INTENT_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def prepare(home: Settings, folder: Path, test: str) -> list[tuple[str, str]]:
    """Return the utterances and labels of the test split."""
    export, fixed, made = (folder / name for name in ("train.tsv", "test.csv", "made"))
    export.write_text("instruction\toutput\n" + "".join(f"u {n}\tf({n})\n" for n in range(20)))
    fixed.write_text(test, encoding="utf-8-sig")
    made.mkdir()
    work = work_folder(home)
    config = DataConfig(test_uri=str(fixed), near_duplicate_similarity=1)
    prepare_dataset(
        made, fetch_export(str(export), work), fetch_export(str(fixed), work), config, home
    )
    return [(e.instruction, e.output) for e in read_split(made / "test.jsonl")]


def test_the_fixed_test_set_can_be_a_table(home: Settings, tmp_path: Path) -> None:
    test = 'instruction;output;tags\n"play; loud";play()\n"再见";stop(）\n'
    assert sorted(prepare(home, tmp_path, test)) == [("play; loud", "play()"), ("再见", "stop()")]


def test_a_row_of_it_with_too_many_cells_stops_the_run(home: Settings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 x wrong-cells, e\.g\. .*test\.csv:2: "):
        prepare(home, tmp_path, "instruction,output\nplay, loud,play()\n")
