"""Whether a model's answers are grounded, by the setting `serve.grounded` and by its labels."""

from intent_core.serving.grounding.policy import POLICY_FILE, GroundingPolicy

MODES = ("auto", "always", "never")
"""The values of `serve.grounded`."""


def is_grounded(mode: str, policy: GroundingPolicy | None) -> bool:
    """Return whether the answers of a model are grounded.

    Args:
        mode: one of `MODES`.
        policy: the policy of the model; None for a model of an earlier version or a base model.
    """
    if policy is None or mode == "never":
        return False
    return mode == "always" or policy.is_copied


def explain_grounding(mode: str, policy: GroundingPolicy | None) -> str:
    """Return a sentence for people: whether the answers of a model are grounded, and why.

    Args:
        mode: one of `MODES`.
        policy: the policy of the model; None for a model of an earlier version or a base model.
    """
    start = "Answers are" if is_grounded(mode, policy) else "Answers are not"
    if policy is None:
        return f"{start} grounded: the model has no {POLICY_FILE}."
    if mode != "auto":
        return f"{start} grounded: the recipe has serve.grounded: {mode}."
    if not policy.num_values:
        return f"{start} grounded: the training labels have no values."
    copied = policy.num_copied / policy.num_values
    return (
        f"{start} grounded: {100 * copied:.1f} % of the {policy.num_values:,} values in the "
        f"training labels occur in their utterance, and {policy.num_unknown:,} can neither be "
        "copied nor listed."
    )
