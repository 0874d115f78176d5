"""What the database is made of: the model, the reader that fills it and the watch that keeps it fresh."""
