"""The domain library: iTAG exports, calls, training, metrics, gate. No Prefect or MLflow needed."""
