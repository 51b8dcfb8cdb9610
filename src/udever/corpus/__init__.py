"""Whole files of texts into files of embeddings."""

from udever.corpus.embed import Summary, embed_file

__all__ = ["Summary", "embed_file"]
