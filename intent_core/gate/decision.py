"""What the gate decides: the results of its checks, whether to promote, a person's approval."""

import math
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from intent_core.evaluation.paired_comparison import PairedComparison

Mode = Literal["enforce", "manual", "dry_run"]
Bound = Literal["min", "max"]

# 0.95 - 0.9 is less than 0.05 in the last bits, and must not reject a fall of 0.05.
TOLERANCE = 1e-9


class CheckResult(BaseModel):
    """One rule of the gate, applied."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    value: float
    """NaN where it is not known."""
    low: float
    high: float
    threshold: float
    passed: bool
    message: str
    bound: Bound = "min"
    """Whether `threshold` is the least or the most that passes."""
    compared: float | None = None
    """What was held against the threshold where that was not the value but its lower bound."""
    utterances: tuple[str, ...] = ()
    """Ids of the first examples that made the check fail, where they are known."""

    @property
    def margin(self) -> float:
        """How far on the right side of the threshold; negative on the wrong one."""
        compared = self.value if self.compared is None else self.compared
        return find_margin(compared, self.threshold, self.bound)

    @model_validator(mode="after")
    def _only_numbers_pass(self) -> Self:
        if self.passed and not is_enough(self.value, self.margin):
            raise ValueError(f"check {self.name!r} cannot pass: value {self.value}")
        return self


class Approval(BaseModel):
    """A person's answer to what passed; `approved` is False, too, when none came in time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approved: bool
    by: str
    note: str
    at: datetime


class GateDecision(BaseModel):
    """Whether to promote, and why, in numbers and in one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: bool
    passed: bool
    """Whether every check passes; the mode says what follows from it."""
    mode: Mode
    checks: tuple[CheckResult, ...]
    reason: str
    candidate_digest: str
    champion_digest: str | None
    test_fingerprint: str
    comparison: PairedComparison | None = None
    approval: Approval | None = None

    @property
    def awaits_approval(self) -> bool:
        """Passed, and a person has yet to say yes or no."""
        return self.mode == "manual" and self.passed and self.approval is None

    @model_validator(mode="after")
    def _follows_from_its_checks(self) -> Self:
        if self.passed != (bool(self.checks) and all(check.passed for check in self.checks)):
            raise ValueError(f"passed is {self.passed}, but the checks say otherwise")
        if self.approval and self.mode != "manual":
            raise ValueError(f"a gate in mode {self.mode!r} takes no approval")
        if self.promote != is_accepted(self.passed, self.mode, self.approval):
            raise ValueError(
                f"promote is {self.promote}, but checks, mode and approval say otherwise"
            )
        return self


def find_margin(compared: float, threshold: float, bound: Bound) -> float:
    """How far a number is on the right side of its threshold; negative on the wrong one."""
    return compared - threshold if bound == "min" else threshold - compared


def is_enough(value: float, margin: float) -> bool:
    """Only an affirmative comparison of numbers passes: NaN must never promote."""
    return math.isfinite(value) and math.isfinite(margin) and margin + TOLERANCE >= 0


def is_accepted(passed: bool, mode: Mode, approval: Approval | None = None) -> bool:
    """What follows from the checks in this mode."""
    if mode == "manual":
        return passed and approval is not None and approval.approved
    return passed and mode == "enforce"
