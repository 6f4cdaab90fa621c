"""Labelling services: iTAG's API, notifications, webhooks."""
