"""The backbone and all that stands between a token and a vector: packing, attention, pooling, the contract."""
