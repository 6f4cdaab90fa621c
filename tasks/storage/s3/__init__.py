"""The driver for S3 and what is compatible with it."""
