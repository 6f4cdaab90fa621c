"""The edge of the pipeline: Prefect tasks and one package per external system."""
