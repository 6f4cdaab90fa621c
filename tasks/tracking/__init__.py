"""MLflow: runs, registry and lineage."""
