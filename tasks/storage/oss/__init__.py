"""The driver for Alibaba OSS."""
