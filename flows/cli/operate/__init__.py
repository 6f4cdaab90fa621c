"""Commands that keep the platform well."""
