"""Datasets in the store and the rows they were made from."""
