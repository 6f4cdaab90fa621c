"""Object stores: a directory, S3 or OSS."""
