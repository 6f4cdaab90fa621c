"""The checks of `intent doctor`."""
