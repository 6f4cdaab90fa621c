"""Commands that read and check exports."""
