-- Prefect's is POSTGRES_DB; each keeps its migrations in a table of the same name.
CREATE DATABASE mlflow;
