"""kubectl's verbs and output."""
