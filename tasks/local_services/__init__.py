"""Prefect, MLflow and the store as processes of this machine."""
