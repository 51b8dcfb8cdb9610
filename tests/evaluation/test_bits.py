"""Bits a byte of a decoder: against a model that knows nothing, alone and in a batch, and what is refused."""

import math

import pytest
import torch

from udever.errors import ModelError
from udever.evaluation.bits import bits_per_byte, write_bits
from udever.report.shares import read_shares

TEXTS = {"eng-Latn": ["hello world", "add"], "deu-Latn": ["grüße " * 3, "eine Summe", "a"]}


@pytest.fixture(scope="module")
def decoder(make, tmp_path_factory):
    """A folder with a decoder and its head, of weights that are drawn, or all 0."""

    def build(*, empty=False):
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp("bits")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(make.config("qwen3", tie_word_embeddings=False)).eval()
        if empty:
            torch.nn.init.zeros_(model.lm_head.weight)
        model.save_pretrained(folder)
        make.tokenizer().save_pretrained(folder)
        return folder

    return build


def test_a_model_that_knows_nothing_takes_as_much_for_every_token(decoder, make):
    found = bits_per_byte(str(decoder(empty=True)), TEXTS)
    tokenizer = make.tokenizer().backend_tokenizer
    for language, texts in TEXTS.items():
        bits = math.log2(make.vocabulary) * sum(len(tokenizer.encode(text).ids) for text in texts)
        num_bytes = sum(len(text.encode()) for text in texts)
        assert found[language] == pytest.approx((bits / num_bytes, bits / len(texts)), rel=1e-3)


def test_texts_alone_are_texts_together(decoder):
    folder = str(decoder())
    together = bits_per_byte(folder, TEXTS)
    for language, texts in TEXTS.items():
        alone = [bits_per_byte(folder, {"x": [text]})["x"][1] for text in texts]
        assert together[language][1] == pytest.approx(sum(alone) / len(alone), rel=2e-3)


def test_of_a_long_text_its_beginning_counts(decoder):
    folder = str(decoder(empty=True))
    (long,) = bits_per_byte(folder, {"x": ["ü " * 2000]}).values()
    (short,) = bits_per_byte(folder, {"x": ["ü " * 200]}).values()
    assert long[0] == pytest.approx(short[0], rel=0.02)


def test_the_table_is_read_by_the_report(tmp_path):
    write_bits(tmp_path / "bits.csv", {"eng-Latn": (0.75, 90.0), "deu-Latn": (1.5, 170.0)})
    shares = read_shares(tmp_path / "bits.csv")
    assert (shares.of("eng-Latn"), shares.of("deu-Latn"), shares.of("fra-Latn")) == (90.0, 170.0, None)
    assert (shares.column, shares.said(90.0), shares.place(90.0)) == ("bits_per_text", "90 bits a text", 90.0)


def test_what_predicts_nothing_is_refused(decoders):
    with pytest.raises(ModelError, match="no decoder"):
        bits_per_byte(str(decoders("bert")), TEXTS)
    with pytest.raises(ModelError, match=r"lacks 'lm_head\.weight'"):
        bits_per_byte(str(decoders("qwen3")), TEXTS)
