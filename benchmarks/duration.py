"""Say at the start how long a benchmark takes."""

import sys


def announce_duration(seconds: float) -> None:
    """Write the expected duration on two CPU cores without other work."""
    minutes = round(seconds / 60)
    expected = f"{minutes} minutes" if minutes > 1 else "a minute" if minutes else "30 seconds"
    sys.stderr.write(f"takes about {expected} on two CPU cores without other work\n")
