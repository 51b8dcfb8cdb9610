"""Hard negatives for training pairs: texts that look like the positive to a model or to BM25, and are none."""

from udever.negatives.mine import Options, Summary, mine_negatives

__all__ = ["Options", "Summary", "mine_negatives"]
