"""vLLM processes and their options."""
