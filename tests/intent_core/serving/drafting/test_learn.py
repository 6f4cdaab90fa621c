"""The draft table: equal labels give equal bytes, and its size is limited."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from intent_core.language.calls import parse_calls
from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.table import DRAFTS_FILE, read_table, write_table
from tests.intent_core.serving.drafting.conftest import MARKS, read_rows


def test_equal_labels_give_equal_bytes(tmp_path: Path) -> None:
    rows = read_rows("crosswoz_zh")[:200]
    written = write_table(learn_table(rows, MARKS))
    assert write_table(learn_table(list(rows), MARKS)) == written
    assert write_table(learn_table(rows[1:], MARKS)) != written
    (tmp_path / DRAFTS_FILE).write_bytes(written)
    assert write_table(read_table(tmp_path)) == written


def test_the_size_does_not_grow_with_the_rows() -> None:
    text = " ".join(f"word{n}" for n in range(50))
    rows = [
        (f"{text} {n} city{n % 4000}", parse_calls(f"x{n % 900}(city{n % 4000},other{n})"))
        for n in range(8000)
    ]
    assert len(write_table(learn_table(rows, MARKS))) < 2_000_000


def test_a_text_of_one_row_is_not_kept() -> None:
    rows = [("call secret", parse_calls("call(hidden)")), ("call me", parse_calls("call(me)")) * 1]
    written = write_table(learn_table(rows, MARKS)).decode()
    assert "call" in written
    assert "secret" not in written and "hidden" not in written


def test_no_labels_give_an_empty_table_and_a_broken_file_is_refused(tmp_path: Path) -> None:
    assert learn_table([], MARKS).intents == {}
    (tmp_path / DRAFTS_FILE).write_text("{}")
    with pytest.raises(ValidationError):
        read_table(tmp_path)
