"""The HTTP protocol of the model server: routes, bodies, errors."""
