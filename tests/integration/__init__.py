"""Parts of the product together, on a real database."""
