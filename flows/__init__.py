"""The composition: flows that read as prose, and the command line over them."""
