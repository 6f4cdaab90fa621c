"""LLaMA-Factory's `generated_predictions.jsonl`: `prompt`, `predict` and `label`."""

import re
from collections.abc import Mapping
from typing import Any

from intent_core.exports.annotators import ROW_KEYS, find_annotator
from intent_core.exports.files.json_rows import EXPORT_AGAIN, list_some, refuse_row
from intent_core.exports.label_results import StageAnswers, read_value, show_answer
from intent_core.exports.row_answer import (
    Note,
    RowAnswer,
    choose_answer,
    finish_answer,
    note_unread,
    read_utterance,
)
from intent_core.recipe.config import DataConfig

# The last turn of the user in a prompt that was written by a chat template.
_USER_TURN = re.compile(
    r".*(?:<\|im_start\|>user\s|<\|start_header_id\|>user<\|end_header_id\|>|\[INST\]|"
    r"(?:^|\n)(?:user|human|USER|Human|User):?\s)"
    r"(.*?)(?:<\|im_end\|>|<\|eot_id\|>|\[/INST\]|\n(?:assistant|ASSISTANT|Assistant)\b|$)",
    re.DOTALL,
)


def is_prediction_row(row: Mapping[str, Any]) -> bool:
    return "predict" in row and "label" in row and "instruction" not in row


def read_prediction_row(row: Mapping[str, Any], config: DataConfig, notes: list[Note]) -> RowAnswer:
    fields = {"prompt": find_prompt(row, config)}
    utterance = read_utterance(fields, "prompt", notes)
    label = read_value(row.get("label"), None)._replace(annotator=find_annotator(row, ROW_KEYS))
    answers = StageAnswers([label], [], [])
    note_unread(row, {"prompt", "label", "predict", "id", config.group_by, *ROW_KEYS}, notes)
    return finish_answer(utterance, choose_answer(answers, config, notes), "given", config, notes)


def find_prompt(row: Mapping[str, Any], config: DataConfig) -> object:
    """Return the user's turn of a prompt; a prompt without a chat template as it is."""
    prompt = row.get("prompt")
    if prompt is None:
        refuse_row(
            "no-utterance",
            f"the row has no 'prompt'; it has {list_some(row) or 'nothing'}: {EXPORT_AGAIN}",
        )
    if isinstance(prompt, str) and (turn := _USER_TURN.match(prompt)):
        return turn[1].strip()
    return prompt


def find_predicted_answer(row: Mapping[str, Any], config: DataConfig) -> str:
    """Return what the model answered: `predict`."""
    if "predict" not in row:
        refuse_row(
            "unlabelled", f"the row has no 'predict'; it has {list_some(row)}: {EXPORT_AGAIN}"
        )
    return show_answer(row["predict"])
