"""What a dataset of plain texts asks of its teacher."""

import json

import numpy as np
import pytest

from udever.errors import DataError
from udever.pairs.mixture import Mixture
from udever.pairs.schema import Role
from udever.pairs.settings import DatasetSettings, DataSettings

TEXTS = [f"text {i}" for i in range(6)]


class Vectors:
    """A teacher of TEXTS that, as `Teacher`, takes texts and nothing else."""

    role: Role = "document"
    digest = "digest"

    def known(self, texts):
        return np.array([text.encode() in {known.encode() for known in TEXTS} for text in texts], bool)

    def targets(self, texts):
        return np.ones((len(texts), 2), np.float32)


@pytest.fixture
def opened(tmp_path):
    def opened(rows, **settings):
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
        dataset = DatasetSettings(name="texts", path=str(path), text="text", teacher="vectors", **settings)
        return Mixture.open(DataSettings(datasets=[dataset]), batch_size=4, seed=0, taught={"texts": Vectors()})

    return opened


def test_rows_without_a_text_are_left_out_and_counted(opened):
    mixture = opened([TEXTS[0], None, *TEXTS[1:], " "], skip_empty=True)
    assert [pair.anchor for pair in mixture.pairs()] == TEXTS
    summary = mixture.describe()[0]
    assert (summary.num_empty, summary.num_untaught) == (2, 0)


def test_texts_without_a_vector_are_refused_or_left_out_and_counted(opened):
    with pytest.raises(DataError, match=r"no vector of 1 of 7 texts \(the first is row 0, 'new'"):
        opened(["new", *TEXTS, None], skip_empty=True)
    mixture = opened(["new", *TEXTS, None], skip_empty=True, skip_untaught=True)
    assert (mixture.num_pairs, mixture.describe()[0].num_untaught) == (6, 1)
