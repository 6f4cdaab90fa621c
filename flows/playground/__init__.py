"""The web page of `intent try`."""
