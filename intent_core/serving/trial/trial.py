"""Trials: which requests are a candidate's, what came of them, and the return when it is too bad.

All of it is this process's own: each replica counts, and ends a trial, by itself.
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
    """Is this caller among the trial's share? The same answer for ever, on every replica."""
    # A JSON text may hold half a surrogate pair, which is refused later and must not fail here.
    key = f"{trial.model}\0{caller}\0{user}".encode(errors="surrogatepass")
    # 48 bits: exact as a float, so that it stays below 1.
    return int.from_bytes(hashlib.sha256(key).digest()[:6]) / 2**48 < trial.share


class Running:
    """One trial of an alias, from its first request until it ends or the file says another."""

    def __init__(self, alias: str, target: Target, trial: Trial, metrics: Metrics) -> None:
        self.target = target
        self.trial = trial
        self.ended: str | None = None
        """The limit that was passed."""
        self.is_replaced = False
        self._alias = alias
        self._metrics = metrics
        self._comparison = Comparison(trial)
        self._skipped = 0

    @property
    def is_over(self) -> bool:
        return self.is_replaced or self.ended is not None

    def continues(self, target: Target) -> bool:
        """Is it the trial of `target`, with the numbers that it has?"""
        same_champion = self.target.model == target.model
        # What was ended stays so, whoever is the champion.
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
        """Note a copy that was not sent."""
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
            "the %s of %s (version %s) as %r is over: %s is %.4g, found %.4g in %d requests",
            self.trial.mode,
            self.trial.model,
            self.trial.version or "-",
            self._alias,
            self.ended,
            limit,
            value,
            self._comparison.candidate.requests,
        )

    def _count(self, outcome: PairOutcome) -> None:
        trial = self.trial
        self._metrics.count_trial_request(self._alias, trial.version, trial.mode, outcome.value)


@dataclass(frozen=True)
class TrialAssignment:
    """What one request is in a trial."""

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
        """The model whose answer the caller gets."""
        return self.running.trial if self.is_canary and self.is_chosen else self.running.target

    def take(self, answer: JudgedAnswer | None) -> None:
        """Note the caller's answer; those of a shadow count in pairs only."""
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
        """What a request is in a trial; None when it is in none.

        The operator's never are: a promotion's probes ask what callers get without a trial.
        """
        running = self._find_running(alias, target) if alias else None
        if running is None or running.is_over or caller == OPERATOR:
            return None
        return TrialAssignment(running, is_chosen(running.trial, caller, user))

    def describe(self, alias: str, target: Target) -> dict[str, object]:
        """What the status says of an alias's trial; nothing without one."""
        running = self._find_running(alias, target)
        return {"trial": running.describe()} if running else {}

    def _find_running(self, alias: str, target: Target) -> Running | None:
        running = self._running.get(alias)
        # The file's content is the same object until the file changes.
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
