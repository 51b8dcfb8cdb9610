import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from udever import Embedder
from udever.errors import ModelError
from udever.model.packed_table import pack_table, unpack_tables

TEXTS = ["add two numbers", "hello world", "def f(): return 1", "numbers " * 40]
TYPES = {8: torch.int8, 4: torch.uint8}


@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([32, 96]), st.floats(1e-20, 1e20))
def test_rows_come_back_within_half_a_step_of_their_group(seed, rows, width, size):
    table = size * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    table[0] = 0
    for bits, group, most in ((8, width, 127), (4, 32, 6.9)):
        packed = pack_table({"t.weight": table, "other": table}, "t.weight", bits)
        assert packed["t.weight"].dtype == TYPES[bits]
        again = unpack_tables(packed)
        assert again.keys() == {"t.weight", "other"}
        found, asked = (x.view(rows, -1, group) for x in (again["t.weight"], table))
        largest = asked.abs().amax(-1, keepdim=True)
        # the scale of all four bits that leaves out nothing; a smaller one is taken where it errs by less in sum
        step = largest / most
        wrong = (found - asked).square().sum(-1)
        assert bool((wrong <= group * (step / 2).square().squeeze(-1) * 1.01 + 1e-30).all())
        repacked = unpack_tables(pack_table(again, "t.weight", bits))["t.weight"]
        torch.testing.assert_close(repacked, again["t.weight"], rtol=0.1 if bits == 4 else 1e-5, atol=float(step.max()))


def test_two_neighbours_share_a_byte_the_first_in_its_lower_half():
    table = torch.zeros(1, 32)
    table[0, :4] = torch.tensor([7.0, -7.0, 1.0, 0.0])
    packed = pack_table({"t": table}, "t", 4)
    assert packed["t"].shape == (1, 16) and packed["t_scale"].dtype == torch.bfloat16
    assert packed["t"][0, :3].tolist() == [15 | 1 << 4, 9 | 8 << 4, 8 | 8 << 4]
    assert unpack_tables(packed)["t"].tolist() == table.tolist()


@pytest.mark.parametrize(("bits", "least"), [(8, 0.999), (4, 0.97)])
def test_it_is_floating_point_once_loaded(decoders, tmp_path, bits, least):
    embedder = Embedder.load(decoders("bloom"), dtype="float32")
    before = embedder.encode(TEXTS)
    embedder.save(tmp_path / "packed", table_bits=bits)
    again = Embedder.load(tmp_path / "packed", dtype="float32")
    assert (again.encode(TEXTS) == embedder.encode(TEXTS)).all()  # what stays in memory is what the file says
    assert least < (again.encode(TEXTS) * before).sum(1).min() < 1
    table = again.backbone.word_embeddings.weight
    assert isinstance(table, torch.nn.Parameter) and table.dtype == torch.float32
    names = [path.name for path in (tmp_path / "packed").glob("*.safetensors")]
    assert names == ["packed.safetensors"]  # no other library takes the whole numbers for weights
    assert load_file(tmp_path / "packed" / names[0])["word_embeddings.weight"].dtype == TYPES[bits]


def test_it_is_blooms_and_whole(decoders, tmp_path):
    with pytest.raises(ModelError, match="for BLOOM in floating point; leave table_bits out"):
        Embedder.load(decoders("qwen3")).save(tmp_path / "packed", table_bits=8)
    embedder = Embedder.load(decoders("bloom"), dtype="float32")
    with pytest.raises(ModelError, match="table_bits is 6; expected 8 or 4"):
        embedder.save(tmp_path / "packed", table_bits=6)
    with pytest.raises(ModelError, match="rows of 20 numbers do not go into four bits; expected a multiple of 32"):
        pack_table({"t": torch.zeros(2, 20)}, "t", 4)
    embedder.save(tmp_path / "packed", table_bits=8)
    path = tmp_path / "packed" / "packed.safetensors"
    state = load_file(path)
    save_file({name: tensor for name, tensor in state.items() if not name.endswith("_scale")}, path)
    with pytest.raises(ModelError, match=r"'word_embeddings\.weight' is I8; expected floating point"):
        Embedder.load(tmp_path / "packed", verify=False)
