"""The domain: read iTAG exports, score calls, train, decide. Usable without Prefect or MLflow."""
