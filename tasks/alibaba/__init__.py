"""Clients of Alibaba Cloud's control planes (PAI-DLC, PAI-EAS, iTAG)."""
