"""Where a model is served: this machine or a fleet."""
