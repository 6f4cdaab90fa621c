"""Base models, adapters and models as files on this machine."""
