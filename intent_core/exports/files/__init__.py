"""Opens a file of rows: its kind, its compression, and its rows as parsed values."""
