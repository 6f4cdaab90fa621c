"""The words a recipe may use for what it chooses from."""

from typing import Literal

Stage = Literal["verify", "check", "label", "system"]
Leniency = Literal[
    "several-objects",
    "several-jobs",
    "object-mark-result",
    "list-answer",
    "full-width",
    "missing-parenthesis",
    "trailing-semicolon",
    "trailing-comma",
    "missing-comma",
    "bare-intent",
]
"""Departures from the export's format or the call syntax that have one sensible reading."""
Normalisation = Literal["nfkc", "full-width", "case", "spaces", "numerals"]
"""Differences between two values that an evaluation may overlook."""
Rule = Literal[
    "few-utterances",
    "few-for-comfort",
    "imbalance",
    "few-multi-intent",
    "few-multi-turn",
    "never-alone",
    "few-phrasings",
    "duplicates",
    "near-duplicates",
    "left-out",
    "conflicts",
    "label-errors",
    "foreign-values",
    "rare-slot-counts",
    "unseen-intents",
    "untested-intents",
    "test-overlap",
    "seq-length",
    "batch-size",
]
"""What the data check looks at; see `intent_core/quality`."""
