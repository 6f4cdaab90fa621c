"""Datasets: build, split and fingerprint examples from an export."""
