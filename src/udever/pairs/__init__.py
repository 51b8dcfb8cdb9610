"""Training pairs: their schema, reading and writing them, mining them from source, hard negatives for them."""
