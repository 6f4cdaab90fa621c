"""A log of a model's answers, so that a killed evaluation resumes where it stopped."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from intent_core.datasets.manifest import Example
from intent_core.evaluation.prediction import Prediction, read_complete_predictions


class KeptAnswers:
    """A file with one line per answer; a line that was cut off by a kill is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_id = {p.example_id: p for p in read_complete_predictions(path)}
        # Rewrite the file, so that the next line is not appended to an incomplete one.
        lines = "".join(_to_line(prediction) for prediction in self._by_id.values())
        path.write_text(lines, encoding="utf-8")

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, prediction: Prediction) -> None:
        """Append an answer, unless the example already has one."""
        if prediction.example_id not in self._by_id:
            self._by_id[prediction.example_id] = prediction
            self._file.write(_to_line(prediction))

    def __len__(self) -> int:
        return len(self._by_id)

    def missing(self, examples: Sequence[Example]) -> list[Example]:
        """Return the examples without an answer."""
        return [example for example in examples if example.id not in self._by_id]

    def of(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return the answers to these examples, in the same order."""
        return [self._by_id[example.id] for example in examples]


def _to_line(prediction: Prediction) -> str:
    return prediction.model_dump_json(exclude_none=True) + "\n"
