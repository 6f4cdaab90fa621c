"""Tracing and erasing what a model was made from."""
