"""The data of the report page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intent_core.datasets.manifest import DatasetManifest, Example
from intent_core.evaluation.report import EvaluationReport
from intent_core.gate.decision import GateDecision
from intent_core.language.vocabulary import Vocabulary
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import PipelineConfig


@dataclass(frozen=True)
class Review:
    """Everything about a candidate after the gate's decision."""

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
    """URLs by name, e.g. {"MLflow run": "http://..."}."""
    utterances: Mapping[str, Example]
    """The test split by id."""
    vocabulary: Vocabulary | None = None
    """The candidate's; None if it is not known."""
    champion_vocabulary: Vocabulary | None = None
    """None without a champion, or if its vocabulary is not known."""
