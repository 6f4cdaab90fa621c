"""What a review is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intent_core.datasets.manifest import DatasetManifest, Example
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import GateDecision
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import PipelineConfig


@dataclass(frozen=True)
class Review:
    """All that is known of a candidate when its gate has decided."""

    report: EvaluationReport
    champion: EvaluationReport | None
    decision: GateDecision
    dataset: DatasetManifest
    artifact: ModelArtifact
    config: PipelineConfig
    losses: Sequence[tuple[int, float]]
    """(optimizer step, training loss)"""
    validations: Sequence[tuple[int, float, float]]
    """(optimizer step, validation loss, exact match)"""
    links: Mapping[str, str]
    """URLs by name, such as {"MLflow run": "http://..."}."""
    utterances: Mapping[str, Example]
    """The test split by id."""
