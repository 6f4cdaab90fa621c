"""Utterances, calls and prompts: the model's input and output text."""
