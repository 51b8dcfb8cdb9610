"""bench/xnli_sample.py draws, without the neutral rows, what mteb draws with them."""

import importlib.util
import random
from pathlib import Path

import datasets
from mteb.abstasks import AbsTask

SCRIPT = Path(__file__).parents[2] / "bench" / "xnli_sample.py"
EACH = 700


def test_what_is_drawn_of_a_label_does_not_depend_on_where_the_others_stand():
    spec = importlib.util.spec_from_file_location("xnli_sample", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    labels = [0, 1, 2] * EACH
    random.Random(0).shuffle(labels)
    whole = datasets.DatasetDict({"test": datasets.Dataset.from_dict({"label": labels, "row": range(3 * EACH)})})
    whole = whole.cast_column("label", datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]))
    sample = AbsTask.stratified_subsampling(whole, seed=module.SEED, splits=["test"])["test"]
    assert len(sample) < 3 * EACH
    for number, name in ((0, "entailment"), (2, "contradiction")):
        places = [row for row, label in enumerate(labels) if label == number]
        expected = {row for row, label in zip(sample["row"], sample["label"], strict=True) if label == number}
        assert {places[at] for at in module.drawn(EACH)[name]} == expected
