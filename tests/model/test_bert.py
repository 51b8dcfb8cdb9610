import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.model.attention import attention_over
from udever.model.backbone import choose
from udever.model.bert import BertShaped
from udever.model.decoders import PaddedModel
from udever.model.packing import pack

SEQUENCES = st.lists(st.lists(st.integers(4, 419), min_size=1, max_size=30), min_size=1, max_size=6)


def encoder(make, name, **changes):
    """A random two-layer encoder of a family that shares BERT's layer."""
    import transformers

    shape = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    values = {key: getattr(make.config("bert"), key) for key in shape}
    config = getattr(transformers, f"{name}Config")(**{**values, "pad_token_id": 1, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Bert", {}),
        ("Bert", {"hidden_act": "gelu_new"}),
        ("Roberta", {}),
        ("Roberta", {"pad_token_id": 3}),
        ("XLMRoberta", {"type_vocab_size": 1}),
        ("Camembert", {}),
    ],
)
def test_packed_is_transformers_own(name, changes, make, alone):
    model = encoder(make, name, **changes)
    chosen = choose(model, attention="bidirectional")
    assert isinstance(chosen, BertShaped)

    @settings(max_examples=6)
    @given(SEQUENCES)
    @torch.inference_mode()
    def check(sequences):
        packed = pack(sequences)
        expected = torch.cat([alone(model, ids) for ids in sequences])
        torch.testing.assert_close(chosen(attention_over(packed, causal=False)), expected, rtol=1e-3, atol=2e-4)
        closing = chosen(attention_over(packed, causal=False), last_only=True)
        torch.testing.assert_close(closing, expected[packed.last], rtol=1e-3, atol=2e-4)

    check()


def test_an_activation_it_does_not_know_runs_padded(make):
    assert isinstance(choose(encoder(make, "Bert", hidden_act="relu"), attention="bidirectional"), PaddedModel)


def test_gradients_are_those_of_transformers(make, alone):
    model = encoder(make, "Bert")
    ids = [5, 9, 30, 7]
    grads = []
    for hidden in (
        BertShaped(model)(attention_over(pack([ids, [8, 8]]), causal=False))[:4],
        alone(model, ids),
    ):
        model.zero_grad()
        hidden.square().sum().backward()
        grads.append(model.encoder.layer[0].intermediate.dense.weight.grad.clone())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
