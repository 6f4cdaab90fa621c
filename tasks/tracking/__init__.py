"""MLflow runs, the model registry, and lineage."""
