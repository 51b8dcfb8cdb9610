"""The analyses of the paper over results of any models: figures, tables, and the page that holds them."""
