"""The recipe: the validated configuration of a run."""
