"""Datasets: deduplicated, split and fingerprinted examples."""
