"""The class that vLLM loads: it answers for each row of a batch, and never raises."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from tokenizers import Tokenizer

from intent_core.serving.drafting.learn import learn_table
from intent_core.serving.drafting.proposer import LabelDrafter
from intent_core.serving.drafting.table import DRAFTS_FILE, write_table
from tests.intent_core.serving.drafting.conftest import MARKS, Draftsman, read_rows


def load(folder: Path, most: int = 16) -> LabelDrafter:
    return LabelDrafter(
        SimpleNamespace(
            speculative_config=SimpleNamespace(num_speculative_tokens=most),
            model_config=SimpleNamespace(model=str(folder)),
        )
    )


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(tiny_model / "tokenizer.json", folder)
    (folder / DRAFTS_FILE).write_bytes(write_table(learn_table(read_rows("snips_en")[:300], MARKS)))
    return folder


def test_each_row_gets_its_draft(model: Path, tokenizer: Tokenizer) -> None:
    draftsman = Draftsman(tokenizer, read_rows("snips_en")[:300])
    rows = [draftsman.ids("play some jazz", "play"), draftsman.ids("will it rain", "get")]
    tokens, lengths = numpy.zeros((3, 200), numpy.int32), numpy.zeros(3, numpy.int32)
    for number, ids in enumerate(rows):
        tokens[number, : len(ids)], lengths[number] = ids, len(ids)
    # The prompt of the third row is not complete.
    drafts = load(model).propose([[1], [1, 2], []], lengths, tokens)
    whole = [draftsman.drafter.draft(ids).ids for ids in rows]
    assert all(drafts[:2]) and drafts[2] == []
    assert [tuple(d) for d in drafts[:2]] == [
        w[: len(d)] for w, d in zip(whole, drafts, strict=False)
    ]
    short = load(model, most=2).propose([[1], [1, 2], []], lengths, tokens)
    assert short == [draft[:2] for draft in drafts]


def test_a_model_without_a_table_is_served_without_drafts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drafter = load(tmp_path)
    assert drafter.propose([[1], [2]], None, None) == [[], []]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_error_turns_drafts_off_and_is_logged_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drafter = load(model)
    for _ in range(3):
        assert drafter.propose([[1]], None, None) == [[]]
    [record] = caplog.records
    assert "TypeError" in record.message
