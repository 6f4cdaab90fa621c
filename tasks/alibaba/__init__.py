"""Clients of Alibaba Cloud's control planes."""
