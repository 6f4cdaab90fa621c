"""Trace the data of models, and process erasure requests."""
