"""vLLM server processes and their options."""
