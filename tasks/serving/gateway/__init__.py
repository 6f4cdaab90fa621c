"""The nginx gateway and its certificates."""
