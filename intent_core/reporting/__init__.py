"""The report a reviewer opens: one page that needs nothing else, and its figures as files."""
