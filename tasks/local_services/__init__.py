"""Prefect, MLflow and the gateway as processes on this machine."""
