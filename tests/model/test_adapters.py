import pytest
import torch
from transformers import AutoModel

from udever import Embedder
from udever.errors import ModelError
from udever.model import adapters
from udever.model.attention import attention_over
from udever.model.packing import pack

TEXTS = ["hello world", "def add(a, b)", "sum of numbers " * 9, ""]


def load(folder, **changes):
    return Embedder.load(folder, dtype="float32", device="cpu", **changes)


@pytest.fixture
def tuned(decoders):
    """(family, tuning) -> a fresh Embedder and the vectors it gave before its trainable weights moved."""

    def make(family, tuning, moved=True):
        embedder = load(decoders(family))
        before = embedder.encode(TEXTS, allow_empty=True)
        adapters.apply_tuning(embedder.backbone, tuning, lora_rank=4, lora_alpha=8.0)
        if moved:
            move(embedder)
        return embedder, before

    return make


def move(embedder):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in embedder.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    embedder.weights_changed()


LORA_FAMILIES = ["bloom", "qwen3", "gpt2", "gpt_neox", "phi3", "falcon"]


@pytest.mark.parametrize("family", LORA_FAMILIES)
def test_lora_starts_as_the_identity_and_then_moves(family, tuned):
    embedder, before = tuned(family, "lora", moved=False)
    assert abs(embedder.encode(TEXTS, allow_empty=True) - before).max() < 1e-5
    trainable = [name for name, p in embedder.backbone.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    move(embedder)
    assert abs(embedder.encode(TEXTS, allow_empty=True) - before).max() > 1e-3


@pytest.mark.parametrize("family", LORA_FAMILIES)
def test_lora_reaches_every_projection_of_every_layer(family, tuned):
    embedder, _ = tuned(family, "lora", moved=False)
    names = [name for name, _ in embedder.backbone.named_parameters()]
    for layer in (".0.", ".1."):
        plain = [n for n in names if layer in n and "base_layer.weight" in n]
        assert len(plain) >= 4
        bare = [
            name
            for name, module in embedder.backbone.named_modules()
            if layer in name and adapters._is_projection(module) and "base_layer" not in name and "lora" not in name
        ]
        assert not bare


@pytest.mark.parametrize("family", LORA_FAMILIES)
def test_merged_is_unmerged(family, tuned):
    embedder, before = tuned(family, "lora")
    unmerged = embedder.encode(TEXTS, allow_empty=True)
    adapters.merge_lora(embedder.backbone)
    assert not adapters.has_lora(embedder.backbone)
    assert abs(embedder.encode(TEXTS, allow_empty=True) - unmerged).max() < 1e-5
    assert abs(unmerged - before).max() > 1e-3


@pytest.mark.parametrize("family", ["bloom", "qwen2", "gpt_neox"])
def test_bitfit_moves_biases_alone(family, decoders):
    embedder = load(decoders(family))
    start = {name: p.detach().clone() for name, p in embedder.backbone.named_parameters()}
    count = adapters.apply_tuning(embedder.backbone, "bitfit")
    assert count == sum(p.numel() for name, p in start.items() if name.endswith("bias"))
    optimizer = torch.optim.AdamW([p for p in embedder.backbone.parameters() if p.requires_grad], lr=0.1)
    embedder.embed_tokens([[10, 11, 12], [13, 14]]).square().sum().backward()
    optimizer.step()
    after = dict(embedder.backbone.named_parameters())
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert moved
    assert all(name.endswith("bias") for name in moved)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_bitfit_without_biases_points_to_lora(family, decoders):
    with pytest.raises(ModelError, match="lora"):
        adapters.apply_tuning(load(decoders(family)).backbone, "bitfit")


def test_full_tuning_moves_all(decoders):
    backbone = load(decoders("bloom")).backbone
    assert adapters.apply_tuning(backbone, "full") == sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize(
    ("family", "tuning"),
    [
        ("bloom", "lora"),
        ("bloom", "bitfit"),
        ("qwen3", "lora"),
        ("qwen2", "bitfit"),
        ("gpt2", "lora"),
        ("falcon", "lora"),
    ],
)
def test_a_tuned_model_comes_back_from_disk(family, tuning, merged, tuned, tmp_path):
    embedder, before = tuned(family, tuning)
    expected = embedder.encode(TEXTS, allow_empty=True)
    assert abs(expected - before).max() > 1e-3
    embedder.save(tmp_path / "out", merged=merged)
    assert (tmp_path / "out" / "model.safetensors").exists() == merged
    back = load(tmp_path / "out")
    assert abs(back.encode(TEXTS, allow_empty=True) - expected).max() < 1e-5
    assert back.fingerprint == embedder.fingerprint
    back.save(tmp_path / "again")
    assert abs(load(tmp_path / "again").encode(TEXTS, allow_empty=True) - expected).max() < 1e-5


def test_a_fully_tuned_model_has_no_adapter_to_save(tuned, tmp_path):
    embedder, _ = tuned("bloom", "full")
    with pytest.raises(ModelError, match="merged"):
        embedder.save(tmp_path / "out", merged=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("family", ["bloom", "qwen3", "gpt2", "falcon"])
def test_peft_itself_loads_the_adapter(family, tuned, decoders, tmp_path, alone):
    from peft import PeftModel

    embedder, _ = tuned(family, "lora")
    embedder.save(tmp_path / "out", merged=False)
    base = AutoModel.from_pretrained(decoders(family), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    ids = [10, 11, 12, 13, 14, 15]
    with torch.inference_mode():
        expected = embedder.backbone(attention_over(pack([[9, 8], ids]), causal=True))[2:]
        torch.testing.assert_close(alone(model, ids), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "bitfit"])
def test_an_adapter_that_does_not_fit_is_refused(tuning, tuned, make, tmp_path):
    embedder, _ = tuned("bloom", tuning)
    embedder.save(tmp_path / "out", merged=False)
    other = make.decoder("bloom", tmp_path / "other", n_layer=1)
    with pytest.raises(ModelError, match="fit") as caught:
        adapters.load_adapter(load(other).backbone, tmp_path / "out")
    assert "\n" not in str(caught.value)
