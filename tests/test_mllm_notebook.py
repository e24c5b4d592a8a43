"""Notebook 05 from start to end for models of several classes, with random weights: it takes any of them by one parameter."""

import nbformat
import pytest
import small_families
import torch

from xaikit.mllm.loading import load_mllm
from xaikit.running.workbook import run
from xaikit.samples.captions import vocabulary

pytestmark = pytest.mark.long
FEW = {"n": 4, "measured_n": 4, "compared_n": 4, "faithful_n": 4, "max_new_tokens": 4, "steps": 2, "size": 56}


def saved(name, folder, monkeypatch):
    """A random model of a class, whose tokenizer knows the words of the scenes."""
    monkeypatch.setattr(small_families, "WORDS", [*vocabulary("shapes"), "describe", "now"])
    mllm = load_mllm(small_families.made(name))
    with torch.no_grad():  # or a random model may end its answer before the first word
        mllm.model.get_output_embeddings().weight[mllm.tokenizer.eos_token_id] = 0
    mllm.model.save_pretrained(folder)
    mllm.processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "scales"), [("llava_onevision", "1, 1.5"), ("qwen2_5_vl", "1, 1.5, 2"), ("gemma3", "1")]
)
def test_the_notebook_takes_any_family(tmp_path, monkeypatch, name, scales):
    folder = saved(name, tmp_path / name, monkeypatch)
    target = run(tmp_path / "run", {"multimodal_model": str(folder), **FEW}, only=["05"])
    cells = nbformat.read(target / "05_mllm_msea_arc.ipynb", as_version=4).cells
    said = [output.data["text/markdown"] for cell in cells for output in cell.get("outputs", []) if "text/markdown" in
            output.get("data", {})]  # fmt: skip
    assert f"is shown the scales {scales} (left out: " in said[0] and "answers name a planted object" in said[0]
    assert f"Learnt, from {folder}" in said[-1]
    for store in ("mllm", "mllm_evaluation", "mllm_misleading", "mllm_claims"):
        assert (target / f"{store}.nc").is_file()
