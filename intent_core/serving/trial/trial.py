"""Trials: assign requests to the candidate, record outcomes, end the trial at a limit.

The state is local to the process: each replica counts requests and ends a trial by itself.
"""

import hashlib
import logging
from dataclasses import dataclass

from intent_core.serving.access.aliases import NamedModel, Target, Trial
from intent_core.serving.access.api_keys import OPERATOR
from intent_core.serving.metrics import Metrics
from intent_core.serving.trial.live_comparison import Comparison, JudgedAnswer, PairOutcome

logger = logging.getLogger(__name__)


def is_chosen(trial: Trial, caller: str, user: str) -> bool:
    """Return whether a caller is in the trial's share; always the same, on every replica."""
    # JSON strings may contain unpaired surrogates; they are refused later and must not fail here.
    key = f"{trial.model}\0{caller}\0{user}".encode(errors="surrogatepass")
    # 48 bits are exact in a float, so the quotient is below 1.
    return int.from_bytes(hashlib.sha256(key).digest()[:6]) / 2**48 < trial.share


class Running:
    """One trial of an alias, until it ends or is replaced in the alias file."""

    def __init__(self, alias: str, target: Target, trial: Trial, metrics: Metrics) -> None:
        self.target = target
        self.trial = trial
        self.ended: str | None = None
        """Name of the limit that ended the trial."""
        self.is_replaced = False
        self._alias = alias
        self._metrics = metrics
        self._comparison = Comparison(trial)
        self._skipped = 0

    @property
    def is_over(self) -> bool:
        return self.is_replaced or self.ended is not None

    def continues(self, target: Target) -> bool:
        """Return whether this is the trial of `target`, so that its counts are kept."""
        same_champion = self.target.model == target.model
        # An ended trial stays ended even if the champion changes.
        return self.trial == target.trial and (same_champion or self.ended is not None)

    def take_champion(self, answer: JudgedAnswer) -> None:
        if not self.is_over:
            self._comparison.champion.take(answer)

    def take_candidate(self, answer: JudgedAnswer) -> None:
        if not self.is_over:
            self._note(self._comparison.candidate.take(answer))

    def take_pair(self, champion: JudgedAnswer, candidate: JudgedAnswer) -> None:
        if not self.is_over:
            self._note(self._comparison.take_pair(champion, candidate))

    def skip(self) -> None:
        """Count a copy that was not sent, or a request that is not judged."""
        self._skipped += 1
        self._count(PairOutcome.SKIPPED)

    def describe(self) -> dict[str, object]:
        return {
            "model": self.trial.model,
            "version": self.trial.version,
            "mode": self.trial.mode,
            "share": self.trial.share,
            **self._comparison.describe(),
            "skipped": self._skipped,
            "ended": self.ended,
        }

    def _note(self, outcome: PairOutcome) -> None:
        self._count(outcome)
        passed = self._comparison.find_passed_limit()
        if passed is None:
            return
        self.ended, value, limit = passed
        self._metrics.count_trial_end(self._alias, self.trial.model, self.ended)
        logger.error(
            "trial ended: mode=%s model=%s version=%s alias=%s exceeded %s: "
            "value %.4g, limit %.4g, after %d requests",
            self.trial.mode,
            self.trial.model,
            self.trial.version or "-",
            self._alias,
            self.ended,
            value,
            limit,
            self._comparison.candidate.requests,
        )

    def _count(self, outcome: PairOutcome) -> None:
        trial = self.trial
        self._metrics.count_trial_request(self._alias, trial.version, trial.mode, outcome.value)


@dataclass(frozen=True)
class TrialAssignment:
    """The role of one request in a trial."""

    running: Running
    is_chosen: bool

    @property
    def is_copied(self) -> bool:
        return self.is_chosen and self.running.trial.mode == "shadow"

    @property
    def is_canary(self) -> bool:
        return self.running.trial.mode == "canary"

    @property
    def answering_model(self) -> NamedModel:
        """The model whose answer is sent to the caller."""
        return self.running.trial if self.is_canary and self.is_chosen else self.running.target

    @property
    def judged_models(self) -> tuple[NamedModel, ...]:
        """The models whose answers to the request are judged."""
        if self.is_copied:
            return self.running.target, self.running.trial
        return (self.answering_model,)

    def skip(self) -> None:
        """Count a request of the candidate's share that is not judged."""
        if self.is_chosen and not self.running.is_over:
            self.running.skip()

    def take(self, answer: JudgedAnswer | None) -> None:
        """Record the caller's answer; in shadow mode answers are recorded in pairs instead."""
        if answer is None or not self.is_canary:
            return
        if self.is_chosen:
            self.running.take_candidate(answer)
        else:
            self.running.take_champion(answer)


class Trials:
    """The trial of each alias that has one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._running: dict[str, Running] = {}

    def assign(self, alias: str, target: Target, caller: str, user: str) -> TrialAssignment | None:
        """Return the role of a request in the alias's trial; None if it is not in a trial.

        The operator's requests never are: promotions probe the champion.
        """
        running = self._find_running(alias, target) if alias else None
        if running is None or running.is_over or caller == OPERATOR:
            return None
        return TrialAssignment(running, is_chosen(running.trial, caller, user))

    def describe(self, alias: str, target: Target) -> dict[str, object]:
        """Return the alias's trial for the status; {} if it does not have one."""
        running = self._find_running(alias, target)
        return {"trial": running.describe()} if running else {}

    def _find_running(self, alias: str, target: Target) -> Running | None:
        running = self._running.get(alias)
        # The parsed content is the same object until the file changes.
        if running is not None and running.target is target:
            return running
        if running is not None and running.continues(target):
            running.target = target
            return running
        if running is not None:
            running.is_replaced = True
            del self._running[alias]
        if target.trial is None:
            return None
        self._running[alias] = Running(alias, target, target.trial, self._metrics)
        return self._running[alias]
