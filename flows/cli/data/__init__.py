"""Commands on exports and datasets."""
