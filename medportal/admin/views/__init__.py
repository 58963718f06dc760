"""Pages of administration, one module for each group of them; all are found by one scan."""
