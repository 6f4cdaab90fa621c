"""Commands that operate and maintain the platform."""
