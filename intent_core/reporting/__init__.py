"""The report page: one self-contained HTML file, and its figures as PNG files."""
