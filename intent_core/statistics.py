"""How sure a measured rate is, and whether two models really differ on the same examples."""

from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from intent_core.errors import DataError


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate; of nothing measured, everything is possible."""
    if not 0 <= successes <= total:
        raise DataError(f"{successes} successes of {total} are not a rate")
    if total == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, total, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test on the examples that only one of two models got right."""
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(binomtest(only_first, discordant, 0.5).pvalue)
