"""Utterances, calls and prompts: the text that goes in and comes out."""
