"""Training pairs: their schema, and reading and writing them."""
