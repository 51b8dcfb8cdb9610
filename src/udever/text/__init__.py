"""Words, scripts and near duplicates of texts in any language: the one set of rules that every room uses."""
