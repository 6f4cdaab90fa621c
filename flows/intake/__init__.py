"""What arrives: exports, labelling tasks, runs that were lost."""
