"""Arrays and labels → pictures, each with its words and its table. Knows nothing about models or pages."""
