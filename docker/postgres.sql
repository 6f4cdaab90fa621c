-- Prefect uses POSTGRES_DB. MLflow needs another database: both have a table of migrations with the
-- same name.
CREATE DATABASE mlflow;
