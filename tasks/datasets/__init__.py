"""Datasets in the store, and the rows that went into them."""
