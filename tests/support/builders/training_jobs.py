"""Job files for the training program, with a few labelled rows and a recipe."""

import json
from pathlib import Path

from intent_core.models.base_model import locate_base_model
from intent_core.recipe.loader import load_config
from intent_core.training.protocol import RESULT_FILE, TrainingJob, TrainingResult
from tests.support.builders.labeled_export import labelled_rows

BASE = ["train.seq_length=128", "train.save_dtype=float32", "train.system_prompt=Recognize."]
FULL = ["train.method=full", "train.lora_dim=0"]


def write_job(folder: Path, model: Path | str, *overrides: str, num_processes: int = 1) -> Path:
    """Write a job with 24 training rows and 6 validation rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", labelled_rows()[:24]), ("validation", labelled_rows()[24:30])):
        lines = (
            json.dumps({"id": str(number), **row}, ensure_ascii=False)
            for number, row in enumerate(rows)
        )
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = load_config(None, [*BASE, f"train.base_model={model}", *overrides])
    job = TrainingJob(
        train=config.train,
        base_model=locate_base_model(str(model)),
        train_file=folder / "train.jsonl",
        validation_file=folder / "validation.jsonl",
        output_dir=folder / "out",
        cache_dir=folder / "cache",
        dataset_fingerprint="0123456789abcdef",
        num_processes=num_processes,
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    return path


def read_job(path: Path) -> TrainingJob:
    return TrainingJob.model_validate_json(path.read_bytes())


def read_result(job: Path) -> TrainingResult:
    return TrainingResult.model_validate_json((job.parent / "out" / RESULT_FILE).read_bytes())
