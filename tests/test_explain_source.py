"""Maps of whole datasets, in parts: shared out, resumed, opened as one, and the same as those of ``explain``."""

import numpy as np
import pytest
from altered_sources import SMALL, small_blocks
from dataset_fixtures import SCENES, bomb, write_folder
from PIL import Image
from refusals import refused

import xaikit as xk
from xaikit.explainers import sources as explaining_sources
from xaikit.files import store
from xaikit.samples.source import BLOCK, blocks_of, parse_shard


@pytest.fixture
def counted(monkeypatch):
    """How many samples were explained."""
    explained, maps_of = [], explaining_sources.maps_of

    def counting(chosen, clip, pixels, *rest):
        explained.append(len(pixels))
        return maps_of(chosen, clip, pixels, *rest)

    monkeypatch.setattr(explaining_sources, "maps_of", counting)
    return explained


def test_shares_take_every_block_once_whatever_the_division():
    more_shares_than_blocks = [blocks_of(40, f"{share}/5")[0].number for share in range(1, 6)]
    assert more_shares_than_blocks == [0, 1, 0, 1, 0]
    for n, k in ((1, 1), (100, 2), (1000, 7)):
        blocks = [block for share in range(1, k + 1) for block in blocks_of(n, f"{share}/{k}")]
        assert sorted(block.number for block in blocks) == list(range(-(-n // BLOCK)))
        assert sorted(row for block in blocks for row in range(block.rows.start, block.rows.stop)) == list(range(n))
    assert [b.rows for b in blocks_of(100)[:3]] == [b.rows for b in blocks_of(1000)[:3]]  # more samples move none


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2", "-1/4", 0.25, "1 / 4"])
def test_what_is_no_share(shard):
    refused("a share such as '3/16' is needed, from '1/16' to '16/16'", parse_shard, shard)


def test_shares_in_any_order_give_what_one_run_gives_to_the_last_byte(clip, tmp_path, counted, monkeypatch):
    small_blocks(monkeypatch)
    source = xk.open_source("planted", 3 * SMALL + 5, seed=3)
    whole = xk.explain_source("grad_eclip", clip, source, tmp_path / "whole")
    assert counted == [SMALL, SMALL, SMALL, 5]
    for shard in ("3/3", "1/3"):
        part = xk.explain_source("grad_eclip", clip, source, tmp_path / "shared", shard=shard)
    assert part.sample.values.tolist() == source.labels[[*range(SMALL), *range(3 * SMALL, 3 * SMALL + 5)]].tolist()
    xk.explain_source("grad_eclip", clip, source, tmp_path / "shared", shard="2/2")  # another division goes on with it
    counted.clear()
    together = xk.explain_source("grad_eclip", clip, source, tmp_path / "shared")
    assert counted == []
    assert together.heat.chunks[0] == (SMALL, SMALL, SMALL, 5)  # not read yet
    files = sorted((tmp_path / "whole").iterdir())
    assert [path.read_bytes() for path in files] == [(tmp_path / "shared" / path.name).read_bytes() for path in files]
    assert together.load().identical(whole.load())
    inputs = source.inputs()
    maps = xk.explain("grad_eclip", clip, inputs.image, inputs.caption, batch_size=SMALL)
    np.testing.assert_allclose(whole.heat.values[:, 0], maps.values, atol=1e-6)


def test_only_what_changed_is_computed_again(clip, tmp_path, counted, monkeypatch):
    small_blocks(monkeypatch)

    def explain(n, **options):
        counted.clear()
        return xk.explain_source({"noise": ("random", options)}, clip, xk.open_source("planted", n, seed=1), tmp_path)

    explain(2 * SMALL)
    assert explain(2 * SMALL + 3).sizes["sample"] == 2 * SMALL + 3 and counted == [3]
    assert explain(2 * SMALL + 3, seed=1).sizes["sample"] == 2 * SMALL + 3 and counted == [SMALL, SMALL, 3]
    for part in tmp_path.glob("000001.*.nc"):
        part.write_bytes(b"half")
    explain(2 * SMALL + 3, seed=1)
    assert counted == [SMALL]


def test_words_are_as_long_as_the_context_and_parts_fit_together(clip, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    source = xk.open_source("planted", SMALL + 4)
    heat = xk.explain_source(["grad_eclip", "mmel"], clip, source, tmp_path, of="text").word_heat
    assert heat.dims == ("sample", "explainer", "token") and heat.shape == (SMALL + 4, 2, clip.context_length)
    inputs = source.inputs()
    words = xk.explain("mmel", clip, inputs.image, inputs.caption, of="text")
    np.testing.assert_allclose(heat.sel(explainer="mmel").values[:, : words.shape[1]], words, atol=1e-6)


def test_bad_images_cost_their_own_row_and_are_tried_again(clip, tmp_path, counted):
    """Five of a hundred samples are broken, each in its way; once one is mended, its block alone is computed again."""
    folder = write_folder(tmp_path / "pictures", 100)
    whole = (folder / "10.png").read_bytes()
    for name, content in (("10.png", whole[:-200]), ("33.png", b""), ("66.png", bomb())):
        (folder / name).write_bytes(content)
    (folder / "34.png").unlink()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "90.png")
    source = xk.open_source(f"folder:{folder}")
    found = xk.explain_source("chefer", clip, source, tmp_path / "maps").load()
    bad = found.error.values != ""
    assert np.flatnonzero(bad).tolist() == [10, 33, 34, 66, 90] and counted == [31, 30, 30, 4]
    reasons = ("truncated", "none of the formats", "there is no file 34.png", "more than 179 megapixels", "mode 'I;16'")
    assert all(reason in said for reason, said in zip(reasons, found.error.values[bad], strict=True))
    assert not any(str(tmp_path) in said for said in found.error.values)
    assert np.isnan(found.heat.values[bad]).all() and np.isfinite(found.heat.values[~bad]).all()
    scenes = SCENES.isel(sample=np.arange(100)[~bad] % 12)
    maps = xk.explain("chefer", clip, scenes.image, scenes.caption)
    np.testing.assert_allclose(found.heat.values[~bad, 0], maps, atol=1e-5)
    (folder / "10.png").write_bytes(whole)
    counted.clear()
    again = xk.explain_source("chefer", clip, source, tmp_path / "maps")
    assert counted == [32] and np.flatnonzero(again.error.values != "").tolist() == [33, 34, 66, 90]


def test_a_source_without_a_good_sample_is_an_error_and_such_a_share_a_warning(clip, tmp_path):
    for path in write_folder(tmp_path / "pictures", 2).glob("*.png"):
        path.write_bytes(b"no picture")
    source = xk.open_source(f"folder:{tmp_path / 'pictures'}")
    refused(
        "none of the 2 samples can be explained; the first, 00.png: ", xk.explain_source, "edge", clip, source, tmp_path
    )
    with pytest.warns(UserWarning, match="none of the 2 samples of 1/1 can be explained"):
        assert xk.explain_source("edge", clip, source, tmp_path, shard="1/1").sizes["sample"] == 2


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({"methods": "mmell"}, "unknown method 'mmell'"),
        ({"methods": {"x": ("mmel", {"alfa": 1})}}, "unknown option 'alfa' of mmel"),
        ({"shard": "3/2"}, "shard='3/2'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"of": "sound"}, "sound"),
    ],
)
def test_bad_choices_are_errors_before_any_work(clip, tmp_path, choices, problem):
    with pytest.raises(ValueError, match=problem):
        choices = {"methods": "mmel", "clip": clip, "source": xk.open_source("planted", 4), **choices}
        xk.explain_source(folder=tmp_path / "x", **choices)
    assert not list(tmp_path.rglob("*.nc"))


def test_a_part_is_a_store(clip, tmp_path):
    xk.explain_source("edge", clip, xk.open_source("planted", 4), tmp_path)
    part = store.read(next(tmp_path.glob("000000.*.nc")), "explanations")
    made_with = store.provenance(part)["made_with"]
    assert made_with["model"] == "tiny-clip" and made_with["weights_digest"] == clip.weights_digest
    assert list(made_with["methods"]) == ["edge"]
