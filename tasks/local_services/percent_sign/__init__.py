"""A folder for PYTHONPATH: lets MLflow's server start from a path with a percent sign."""
