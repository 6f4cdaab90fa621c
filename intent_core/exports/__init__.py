"""Read labelled exports: each row becomes a record or a rejection with a reason."""
