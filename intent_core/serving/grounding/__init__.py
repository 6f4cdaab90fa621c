"""Grounded decoding: answers whose values are taken from the utterance, by a grammar a request."""
