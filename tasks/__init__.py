"""The edge: Prefect tasks and the outside systems they reach, one per file."""
