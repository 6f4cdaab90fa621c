"""Commands on what is served."""
