"""The forms in which callers receive calls: text, tool calls and JSON."""
