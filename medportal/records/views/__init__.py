"""Pages about the records of one patient."""
