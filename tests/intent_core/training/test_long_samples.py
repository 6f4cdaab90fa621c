"""`intent check` and the training reject the same samples, and neither ends because of a few."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from intent_core.datasets.check_export import ExportCheck, Sample, check_export
from intent_core.datasets.manifest import DatasetManifest
from intent_core.errors import ConfigError, DataError
from intent_core.models.base_model import SampleTokens, count_tokens, locate_base_model
from intent_core.recipe.config import TrainConfig
from intent_core.recipe.loader import load_config
from intent_core.training.program import Splits, encode_splits
from intent_core.training.protocol import TOO_LONG_FILE, TrainingJob
from tests.support.builders.labeled_export import labelled_rows
from tests.support.builders.records import build, record

POSITIONS = 512
LONG = "play " + "la " * 140


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def recipe(model: Path, seq_length: object = 128) -> TrainConfig:
    settings = [f"train.base_model={model}", f"train.seq_length={seq_length}"]
    return load_config(None, [*settings, "serve.max_model_len=40000"]).train


def write_dataset(folder: Path, rows: list[dict[str, str]], **config: Any) -> DatasetManifest:
    records = [record(row["instruction"], row["output"], i) for i, row in enumerate(rows)]
    whole = {"near_duplicate_similarity": 1, "test_fraction": 0.2, "validation_fraction": 0.2}
    return build(folder, records, **{**whole, **config})


def make_job(folder: Path, dataset: DatasetManifest | None, train: TrainConfig) -> TrainingJob:
    return TrainingJob(
        train=train,
        base_model=locate_base_model(train.base_model),
        train_file=folder / "train.jsonl",
        validation_file=folder / "validation.jsonl",
        output_dir=folder,
        cache_dir=folder,
        dataset=dataset,
    )


def encode(
    tokenizer: Any, folder: Path, dataset: DatasetManifest | None, train: TrainConfig
) -> Splits:
    return encode_splits(tokenizer, make_job(folder, dataset, train), POSITIONS, writes=True)


def check(rows: list[dict[str, str]], folder: Path, train: TrainConfig) -> ExportCheck:
    """Run the data check with the tokenizer of the tiny model."""

    def count(samples: list[Sample], config: TrainConfig) -> SampleTokens:
        return count_tokens(samples, config, locate_base_model(config.base_model), folder)

    path = folder / "export.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    config = load_config(None, [f"train.base_model={train.base_model}"])
    data = config.data.model_copy(update={"max_rejection_rate": 1.0})
    config = config.model_copy(update={"train": train, "data": data})
    return check_export(path, config, count_tokens=count, out=folder / "out")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@given(
    lengths=st.lists(st.integers(0, 200), min_size=12, max_size=16),
    seq_length=st.sampled_from([64, 100, 128, "auto"]),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_check_and_the_training_reject_the_same_samples(
    tokenizer: Any,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    seq_length: object,
) -> None:
    folder = tmp_path_factory.mktemp("same")
    rows = [
        {"instruction": f"{n} " + "播放" * length, "output": f"play({n})"}
        for n, length in enumerate(lengths)
    ]
    train = recipe(tiny_model, seq_length)
    outcome = check(rows, folder, train)
    checked = {
        json.loads(row["raw"])["instruction"]: row["message"]
        for row in read_lines(folder / "out" / "rejections.jsonl")
    }
    assert outcome.records + outcome.rejections == outcome.objects == len(rows)
    assert outcome.rejections == outcome.reasons.get("too-many-tokens", 0) == len(checked)
    assert outcome.utterances == len(rows) - len(checked)

    lines = [json.dumps({"id": row["output"], **row}) + "\n" for row in rows]
    (folder / "train.jsonl").write_text("".join(lines[:-2]), encoding="utf-8")
    (folder / "validation.jsonl").write_text("".join(lines[-2:]), encoding="utf-8")
    dataset = write_dataset(folder / "dataset", labelled_rows(), max_rejection_rate=1.0)
    dataset = dataset.model_copy(update={"origins": ""})
    try:
        splits = encode(tokenizer, folder, dataset, train)
    except DataError as error:
        assert "the training split is empty" in str(error)
        assert len(checked) >= len(rows) - 2
        return
    assert {sample.instruction: sample.message for sample in splits.too_long} == checked
    assert len(splits.train) + len(splits.validation) + len(checked) == len(rows)


def test_places_are_those_of_the_export_and_test_rows_stay(
    tokenizer: Any, tiny_model: Path, tmp_path: Path
) -> None:
    long = [{"instruction": f"{LONG}{n}", "output": f"play({n})"} for n in range(20)]
    rows = [*labelled_rows(), *long]
    dataset = write_dataset(tmp_path, rows, max_rejection_rate=0.2)
    before = (tmp_path / "test.jsonl").read_bytes()
    splits = encode(tokenizer, tmp_path, dataset, recipe(tiny_model))
    assert {sample.split for sample in splits.too_long} == {"train", "validation"}
    for sample in splits.too_long:
        assert sample.source == "file:///export.manifest"
        assert rows[sample.line - 1]["instruction"] == sample.instruction
        assert "train.seq_length is 128: raise it to 512" in sample.message
    written = read_lines(tmp_path / TOO_LONG_FILE)
    assert written == [sample.model_dump() for sample in splits.too_long]
    assert 0 < len(written) < len(long), "the others are in the test split"
    assert (tmp_path / "test.jsonl").read_bytes() == before
    assert before.count(LONG.encode()) == len(long) - len(written)
    assert splits.longest <= 128
    # A later training with another length leaves no file of this one.
    assert not encode(tokenizer, tmp_path, dataset, recipe(tiny_model, 512)).too_long
    assert not (tmp_path / TOO_LONG_FILE).exists()


def test_the_limit_counts_the_rows_that_were_rejected_before(
    tokenizer: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """Two rows were rejected before; a third is forgotten and does not count."""
    rows = [*labelled_rows(), *({"instruction": f"{LONG}{n}", "output": "a()"} for n in range(9))]
    records = len(rows)

    def encode_with(rate: float) -> Splits:
        dataset = write_dataset(tmp_path, rows, max_rejection_rate=rate)
        return encode(tokenizer, tmp_path, dataset, recipe(tiny_model))

    num_long = len(encode_with(1.0).too_long)
    exact = (num_long + 2) / (records + 3)
    assert len(encode_with(exact).too_long) == num_long
    with pytest.raises(DataError) as caught:
        encode_with(exact - 0.001)
    message = str(caught.value)
    assert f"{num_long + 2} of {records + 3} rows of file:///export.manifest were" in message
    assert f"{num_long} x too-many-tokens, e.g. file:///export.manifest:" in message
    assert "2 x bad-calls" in message
    assert "forgotten" not in message


def test_without_a_dataset_only_the_files_count(
    tokenizer: Any, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"id": str(n), **row} for n, row in enumerate(labelled_rows()[:39])]
    rows.append({"id": "long", "instruction": LONG, "output": "a()"})
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "validation.jsonl").write_text("", encoding="utf-8")
    (sample,) = encode(tokenizer, tmp_path, None, recipe(tiny_model)).too_long
    assert str(sample).startswith("train.jsonl:40: the sample has ")
    (tmp_path / "train.jsonl").write_text("".join(lines[30:]), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of 10 rows of train\.jsonl were rejected \(10\.0%"):
        encode(tokenizer, tmp_path, None, recipe(tiny_model))


def test_a_split_without_samples_names_their_length(
    tokenizer: Any, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [json.dumps({"id": "1", "instruction": LONG, "output": "a()"}) + "\n"]
    rows.append(json.dumps({"id": "2", "instruction": "play", "output": "a()"}) + "\n")
    dataset = write_dataset(tmp_path, labelled_rows(), max_rejection_rate=1.0)
    (tmp_path / "train.jsonl").write_text(rows[0], encoding="utf-8")
    with pytest.raises(DataError, match=r"empty.*1 sample\(s\) are too long: raise train\.seq_"):
        encode(tokenizer, tmp_path, dataset, recipe(tiny_model))
    (tmp_path / "train.jsonl").write_text(rows[1], encoding="utf-8")
    (tmp_path / "validation.jsonl").write_text(rows[0], encoding="utf-8")
    best = recipe(tiny_model).model_copy(update={"best_checkpoint": "exact_match"})
    with pytest.raises(ConfigError, match=r"requires a validation split.*1 sample\(s\)"):
        encode(tokenizer, tmp_path, dataset, best)


def test_the_limit_of_rejections_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "a", labelled_rows())
    other = write_dataset(tmp_path / "b", labelled_rows(), max_rejection_rate=0.5)
    assert one.fingerprint == other.fingerprint
