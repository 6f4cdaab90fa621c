"""The allowed values of recipe keys that select from a list."""

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
    "typed-quotes",
    "choice-answer",
    "bare-intent",
]
Drafting = Literal["auto", "always", "never"]
"""When a server drafts answers; `auto` decides by the device and the model."""
ExportFormat = Literal["auto", "label-studio", "itag", "predictions", "alpaca", "chat", "doccano"]
"""How rows are read; `auto` detects it from each row."""
"""Deviations from the export format or the call syntax that can be read in only one way."""
Normalisation = Literal[
    "nfkc",
    "full-width",
    "case",
    "traditional",
    "spaces",
    "mixed-spaces",
    "times",
    "numbers",
    "numerals",
]
"""Differences between two values that an evaluation can ignore."""
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
    "missing-values",
    "value-order",
    "joined-values",
    "value-spellings",
    "look-alike-intents",
    "broken-text",
    "unnamed-values",
    "unseen-intents",
    "untested-intents",
    "test-overlap",
    "unknown-intents",
    "unknown-slots",
    "unlisted-values",
    "wrong-types",
    "fixed-counts",
    "synonym-values",
    "unused-intents",
    "seq-length",
    "batch-size",
]
"""Rules of the data check; see `intent_core/quality`."""
