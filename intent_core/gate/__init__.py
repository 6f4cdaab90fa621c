"""The quality gate: decides whether to promote a candidate, and explains the decision."""
