"""Forms of identity, one module for each group of pages; shared fields are in ``fields``."""
