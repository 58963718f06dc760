"""Pages of new results, and of results that were held back."""
