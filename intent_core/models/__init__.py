"""Base models and the artifacts trained from them."""
