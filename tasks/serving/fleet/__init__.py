"""Replicas of a fleet, and the ones that run on EAS."""
