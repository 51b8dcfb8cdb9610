"""Published checkpoints that carry no file saying how to use them: their recipes, by name, as data."""

from dataclasses import dataclass

from udever.errors import ModelError
from udever.model.contract import Contract, Role
from udever.model.packing import Pooling


@dataclass(frozen=True)
class PublishedModel:
    """Markers as (opening, closing) token strings, and what else the model's authors did.

    `ids` are the markers' ids where the tokenizer does not know their names.
    """

    query: tuple[str, str]
    document: tuple[str, str]
    pooling: Pooling
    max_length: int
    ids: tuple[tuple[str, int], ...] = ()


_UDEVER = PublishedModel(  # model cards of izhx/udever-bloom-*: arXiv 2310.08232 v1
    query=("[BOQ]", "[EOQ]"),
    document=("[BOD]", "[EOD]"),
    pooling="last",
    max_length=300,
    ids=(("[BOQ]", 250680), ("[EOQ]", 250681), ("[BOD]", 250682), ("[EOD]", 250683)),
)
_SGPT = PublishedModel(  # arXiv 2202.08904: brackets around each side, weighted mean
    query=("[", "]"), document=("{", "}"), pooling="weighted_mean", max_length=300
)

RECIPES = {
    **{f"izhx/udever-bloom-{size}": _UDEVER for size in ("560m", "1b1", "3b", "7b1")},
    "bigscience/sgpt-bloom-7b1-msmarco": _SGPT,
}
"""Hub name -> recipe."""


def contract_of(name: str, tokenizer: object) -> Contract:
    """The contract of a published checkpoint, with its markers looked up in `tokenizer`."""
    recipe = RECIPES[name]
    query, document = _role(recipe, recipe.query, tokenizer), _role(recipe, recipe.document, tokenizer)
    return Contract(
        pooling=recipe.pooling, max_length=recipe.max_length, query=query, document=document, symmetric=query
    )


def _role(recipe: PublishedModel, markers: tuple[str, str], tokenizer: object) -> Role:
    opening, closing = (_id_of(marker, recipe, tokenizer) for marker in markers)
    return Role(prefix_ids=(opening,), suffix_ids=(closing,))


def _id_of(marker: str, recipe: PublishedModel, tokenizer: object) -> int:
    token = tokenizer.get_vocab().get(marker, dict(recipe.ids).get(marker))  # pyright: ignore[reportAttributeAccessIssue]
    if token is None:
        raise ModelError(f"the tokenizer has no token {marker!r}, which this checkpoint's recipe needs")
    return token
