"""Drafts of answers for vLLM's speculative decoding, learned from labelled utterances."""
