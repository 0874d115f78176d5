"""What the database is made of: the model, and the reader that fills it."""
