"""The page to try the served model."""
