"""Evaluation through a real model server."""
