"""The recipe: one validated configuration of a run."""
