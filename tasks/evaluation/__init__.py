"""Evaluation of a model on a real model server."""
