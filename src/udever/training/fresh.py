"""A backbone made on the spot: a byte-level BPE trained on the given texts and a BLOOM with random weights.

It knows nothing before training. It is there so that the whole job runs with nothing downloaded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udever.model.markers import NAMES

FRESH = "fresh"
"""The name by which recipes and the command line ask for a base made on the spot."""

SEEDLING = "seedling"
"""The name of the base that is bundled with the package."""

_EOS, _PAD = "</s>", "<pad>"


def make_base(
    texts: Sequence[str],
    folder: Path,
    *,
    vocab_size: int = 16_384,
    hidden_size: int = 256,
    num_heads: int = 2,
    seed: int = 0,
) -> None:
    """Write tokenizer, configuration and random weights into `folder` (made if missing)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import BloomConfig, PreTrainedTokenizerFast

    from udever.model.bloom import Bloom, init_weights, let_content_through
    from udever.model.folder import save_weights

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(_word_pattern(), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_PAD, _EOS, *NAMES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_EOS, pad_token=_PAD).save_pretrained(folder)
    config = BloomConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden_size,
        n_layer=2,
        n_head=num_heads,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = Bloom(config)
    init_weights(model, seed)
    let_content_through(model, seed)
    save_weights(model, folder)


def _word_pattern() -> Any:
    """Words and numbers apart, and identifiers cut at underscores and capitals: their parts carry the meaning."""
    from tokenizers import Regex

    words = (r" ?\p{Lu}?[\p{Ll}\p{Lm}\p{Lo}\p{M}]+", r" ?\p{Lu}+(?!\p{Ll})", r" ?\p{N}{1,3}")
    spaces = (r"[^\S\n]+(?=\S)", r"\n\s*", r"\s+")
    return Regex("|".join((*words, *spaces, r" ?[^\s\p{L}\p{M}\p{N}]+", r".\p{M}*")))
