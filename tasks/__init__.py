"""The edge: Prefect tasks and one package for each outside system."""
