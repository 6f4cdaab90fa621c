"""Cleaning, diagnosis and backup of a platform."""
