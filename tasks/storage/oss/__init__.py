"""Storage driver for Alibaba Cloud OSS."""
