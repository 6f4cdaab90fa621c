"""Base models, and model artifacts trained from them."""
