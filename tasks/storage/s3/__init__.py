"""Storage driver for S3 and compatible servers."""
