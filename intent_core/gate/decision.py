"""The gate's decision: check results, whether to promote, and the manual approval."""

import math
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from intent_core.evaluation.paired_comparison import PairedComparison

Mode = Literal["enforce", "manual", "dry_run"]
Bound = Literal["min", "max"]

# 0.95 - 0.9 is slightly less than 0.05 in floating point; an allowed drop of 0.05 must pass.
TOLERANCE = 1e-9


class CheckResult(BaseModel):
    """The result of one check."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    value: float
    """NaN if unknown."""
    low: float
    high: float
    threshold: float
    passed: bool
    message: str
    bound: Bound = "min"
    """Whether `threshold` is a minimum or a maximum."""
    compared: float | None = None
    """The lower bound, if that was compared with the threshold instead of the value."""
    utterances: tuple[str, ...] = ()
    """Ids of the first examples that caused the failure, if known."""

    @property
    def margin(self) -> float:
        """Distance to the threshold; negative if the check fails."""
        compared = self.value if self.compared is None else self.compared
        return find_margin(compared, self.threshold, self.bound)

    @model_validator(mode="after")
    def _only_numbers_pass(self) -> Self:
        if self.passed and not is_enough(self.value, self.margin):
            raise ValueError(
                f"check {self.name!r} cannot pass with value {self.value} and threshold "
                f"{self.threshold}"
            )
        return self


class Approval(BaseModel):
    """The answer of the manual approval; `approved` is also False if it timed out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approved: bool
    by: str
    note: str
    at: datetime


class GateDecision(BaseModel):
    """Whether to promote, with the check results and the reason as one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: bool
    passed: bool
    """Whether every check passed; the mode determines whether that promotes the candidate."""
    mode: Mode
    checks: tuple[CheckResult, ...]
    reason: str
    candidate_digest: str
    champion_digest: str | None
    """Digest of the served model; None if no model is served."""
    test_fingerprint: str
    comparison: PairedComparison | None = None
    approval: Approval | None = None

    @property
    def is_champion(self) -> bool:
        """Whether the judged model is the served one, so that there is nothing to compare with."""
        return self.champion_digest == self.candidate_digest

    @property
    def awaits_approval(self) -> bool:
        """Whether the candidate passed and the manual approval is pending."""
        return self.mode == "manual" and self.passed and self.approval is None

    @property
    def is_rejected(self) -> bool:
        """Whether the candidate failed, or was declined. A dry run that passes is not rejected."""
        return not self.promote and not (self.mode == "dry_run" and self.passed)

    @model_validator(mode="after")
    def _follows_from_its_checks(self) -> Self:
        if self.passed != (bool(self.checks) and all(check.passed for check in self.checks)):
            raise ValueError(f"passed is {self.passed}, which contradicts the checks")
        if self.approval and self.mode != "manual":
            raise ValueError(f"a decision in mode {self.mode!r} cannot have an approval")
        if self.promote != is_accepted(self.passed, self.mode, self.approval):
            raise ValueError(
                f"promote is {self.promote}, which contradicts the checks, mode and approval"
            )
        return self


def find_margin(compared: float, threshold: float, bound: Bound) -> float:
    """Return the distance of a number to its threshold; negative if it misses the threshold."""
    return compared - threshold if bound == "min" else threshold - compared


def is_enough(value: float, margin: float) -> bool:
    """Return whether a finite value has a margin of 0 or more; NaN must never pass."""
    return math.isfinite(value) and math.isfinite(margin) and margin + TOLERANCE >= 0


def is_accepted(passed: bool, mode: Mode, approval: Approval | None = None) -> bool:
    """Return whether the mode promotes a candidate with this result and approval."""
    if mode == "manual":
        return passed and approval is not None and approval.approved
    return passed and mode == "enforce"
