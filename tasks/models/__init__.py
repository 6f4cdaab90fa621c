"""Base models and adapters as files on this machine."""
