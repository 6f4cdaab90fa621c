"""Who may use which model, and how often."""
