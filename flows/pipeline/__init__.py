"""The main pipeline, from an export to a served model."""

from flows.pipeline.flow import intent_pipeline

__all__ = ["intent_pipeline"]
