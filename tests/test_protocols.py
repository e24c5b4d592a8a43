"""The papers' protocols as computations: shares, resumption, bad samples, choices."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import xarray as xr
from altered_sources import SMALL, altered, breaking, held, small_blocks, spoiled, with_foils
from refusals import refused

import xaikit as xk
from xaikit import plots
from xaikit.evaluation import protocols
from xaikit.explainers import sources as chosen
from xaikit.files.store import annotate, provenance, read
from xaikit.measures import intervals
from xaikit.measures.estimates import wilson
from xaikit.samples.layouts import open_source

METHODS = ["grad_eclip", "random"]
KINDS = {"confidence": "captions", "classification": "classes", "retrieval": "captions", "winoground": "pairs"}
CHOICES = {"classification": {"steps": 2}, "retrieval": {"steps": 2}}


@cache
def source_of(protocol, n):
    if protocol == "foil_images":
        return with_foils(source_of("winoground", n))
    return held(open_source("planted", n, 1, KINDS[protocol]))


def compute(protocol, clip, folder, source=None, methods=METHODS, n=24, **choices):
    source = source_of(protocol, n) if source is None else source
    return getattr(protocols, protocol)(clip, source, methods, folder, **CHOICES.get(protocol, {}), **choices)


@pytest.mark.parametrize("protocol", KINDS)
def test_shares_in_any_order_give_what_one_run_gives(clip, tmp_path, protocol, monkeypatch):
    small_blocks(monkeypatch)
    source = held(open_source("planted", 2 * SMALL + 2, 1, KINDS[protocol]))
    at_once = compute(protocol, clip, tmp_path / "one", source, ["random"]).load()
    for shard, known in (("2/3", SMALL), ("3/3", 2), ("1/3", SMALL), (None, 2 * SMALL + 2)):
        shared = compute(protocol, clip, tmp_path / "shared", source, ["random"], shard=shard)
        assert len(shared.sample) == known
    shared.load()
    for name in at_once.data_vars:
        assert at_once[name].dtype == shared[name].dtype
        np.testing.assert_array_equal(at_once[name], shared[name], err_msg=name)
    xr.testing.assert_identical(protocols.measured(at_once), protocols.measured(shared))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [name[:7] for name in names] == ["000000.", "000001.", "000002."]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes() for name in names)


@pytest.mark.parametrize("protocol", [*KINDS, "foil_images"])
def test_what_is_there_is_not_computed_again(clip, tmp_path, protocol, monkeypatch):
    first = compute(protocol, clip, tmp_path, n=8).load()
    monkeypatch.setattr(chosen, "maps_of_pairs", lambda *args, **rest: pytest.fail("explained again"))
    again = compute(protocol, clip, tmp_path, n=8)
    assert again.identical(first)
    about = provenance(first)["made_with"]
    assert again[list(again)[-1]].chunks and None not in (about["model"], about["weights_digest"])
    for other in ({"methods": ["grad_eclip", "chefer"]}, {"batch_size": 3}):
        with pytest.raises(pytest.fail.Exception, match="explained again"):
            compute(protocol, clip, tmp_path, n=8, **other)


@pytest.mark.parametrize("protocol", [*KINDS, "foil_images"])
def test_batches_change_no_more_than_the_last_bit(clip, tmp_path, protocol):
    together, few = (compute(protocol, clip, tmp_path / f"{size}", batch_size=size, n=8).load() for size in (64, 3))
    for name in together.data_vars:
        if name != "caption":
            np.testing.assert_allclose(together[name], few[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("protocol", [*KINDS, "foil_images"])
def test_a_bad_sample_is_recorded_and_the_others_go_on(clip, tmp_path, protocol):
    source = source_of(protocol, 12)
    good = protocols.measured(compute(protocol, clip, tmp_path / "good", source).load())
    ds = compute(protocol, clip, tmp_path / "bad", spoiled(source, 5, 6))
    broken = "the file is broken"
    reasons = {"5": broken, "6": broken}
    if protocol == "winoground":
        reasons |= dict.fromkeys("47", "left out: its partner is bad, or isn't among the samples")
    assert dict(protocols.bad_samples(ds).to_numpy().tolist()) == reasons
    stage = "embeddings" if protocol == "retrieval" else "protocol"
    read(next((tmp_path / "bad").glob("000000.*.nc")), stage)  # whole, by its digest
    found, left_out = protocols.measured(ds), [4, 5, 6, 7] if protocol == "winoground" else [5, 6]
    assert protocols.table(found).attrs["samples"] == 12 - len(left_out)
    for name in [name for name in found if found[name].dims == ("sample", "explainer")]:
        assert np.isnan(found[name][left_out]).all(), name
        if protocol != "retrieval":  # where all are searched among all
            kept = good[name].drop_isel(sample=left_out)
            np.testing.assert_allclose(found[name].drop_isel(sample=left_out), kept, atol=1e-4)
            np.testing.assert_allclose(protocols.table(found)[name], kept.mean("sample"), atol=1e-4)
    none = compute(protocol, clip, tmp_path / "all", spoiled(source, *range(12)))
    refused("none of the 12 samples is good; the first: the file is broken", protocols.measured, none)


def test_retrieval_leaves_bad_samples_out_of_what_is_searched(clip, tmp_path):
    source = source_of("retrieval", 34)
    without = altered(source, lambda ds, rows: ds)
    few = protocols.measured(compute("retrieval", clip, tmp_path / "few", source.head(32)))
    spoilt = protocols.measured(compute("retrieval", clip, tmp_path / "bad", spoiled(without, 32, 33)))
    xr.testing.assert_allclose(spoilt.isel(sample=slice(32)).drop_attrs(), few.drop_attrs(), atol=1e-12)


@pytest.mark.parametrize("protocol", [*KINDS, "foil_images"])
def test_a_map_that_is_not_finite_counts_for_its_method_alone(clip, tmp_path, protocol, monkeypatch):
    breaking(monkeypatch, 2)
    alone = protocols.measured(compute(protocol, clip, tmp_path / "one", methods=["random"], n=8))
    ds = compute(protocol, clip, tmp_path / "two", methods=["broken", "random"], n=8)
    assert protocols.bad_samples(ds).label.tolist()[0] == "2"
    assert protocols.bad_samples(ds).reason.unique().tolist() == ["the map of broken holds NaN or infinite values"]
    found = protocols.measured(ds)
    for name in alone.data_vars:
        if found[name].dims == ("sample", "explainer"):
            np.testing.assert_allclose(found[name][:, 1], alone[name][:, 0], atol=1e-4, err_msg=name)
            whole = name in ("text", "image", "group", "accuracy")  # without any map
            assert np.isnan(found[name][2, 0]) != whole and np.isfinite(found[name][4, 0]), name


def test_methods_have_labels_options_and_seeds(clip, tmp_path):
    methods = {"random": "random", "other noise": ("random", {"seed": 7}), "two blocks": ("mmel", {"blocks": 2})}
    ds = protocols.winoground(clip, source_of("winoground", 8), methods, tmp_path, seed=7)
    about = provenance(ds)["made_with"]["methods"]
    assert [*ds.explainer.values] == [*methods] and about["random"]["options"] == {"seed": 7}
    assert about["two blocks"]["method"] == "mmel" and about["two blocks"]["options"]["blocks"] == 2
    assert about["two blocks"]["options"]["temperature"] == xk.methods()["mmel"]["options"]["temperature"]
    np.testing.assert_array_equal(ds.similarity_left[:, 0], ds.similarity_left[:, 1])
    assert (ds.similarity_left[:, 0] != ds.similarity_left[:, 2]).any()
    other = protocols.winoground(clip, source_of("winoground", 8), methods, tmp_path, seed=8)
    assert (other.similarity_left[:, 0] != other.similarity_left[:, 1]).any()


def test_a_method_of_images_alone_has_no_numbers_for_the_text(clip, tmp_path):
    ds = compute("confidence", clip, tmp_path, methods=["centre", "random"], n=8)
    shown = protocols.table(ds)
    assert shown.loc["centre"].isna().tolist() == [False, False, True, True] and shown.loc["random"].notna().all()
    text = protocols.table(ds, interval=True)["text drop"]
    assert text["centre"] == "" and text["random"].startswith(f"{shown.loc['random', 'text drop']:.3f} [")


@pytest.mark.parametrize("protocol", ["confidence", "winoground", "foil_images"])
def test_shares_have_wilsons_intervals(clip, tmp_path, protocol):
    """That eight of eight were right is no certainty."""
    found = protocols.measured(compute(protocol, clip, tmp_path, methods=["random"], n=8))
    shares = [found[name] for name in found.data_vars if protocol != "confidence" or "increase" in name]
    shares = [values for values in shares if values.dims == ("sample", "explainer")]
    assert len(shares) > 1
    for values in shares:
        known, whole = values.values[np.isfinite(values.values)], 100.0 if protocol == "confidence" else 1.0
        low, high = wilson(known.mean() / whole, len(known))
        assert intervals.score_interval(values[:, 0])[1:] == pytest.approx((whole * low, whole * high))


@pytest.mark.parametrize(
    ("protocol", "number"), [("confidence", 1), ("classification", 2), ("retrieval", 3), ("winoground", 1)]
)
def test_tables_have_the_papers_columns(clip, tmp_path, protocol, number):
    shown = protocols.table(compute(protocol, clip, tmp_path, n=8))
    if protocol == "winoground":
        message = "the table has the columns text, image, group, .* but table 1 of the paper"
        refused(message, protocols.beside_paper, shown, number)
        return
    beside = protocols.beside_paper(shown, number)
    here, paper = beside.index.get_level_values(0).unique()
    assert here == "here: tiny-clip, planted, 8 samples"
    assert paper.startswith("paper: ") and paper.endswith("another model")
    assert beside.loc[here].equals(shown) and len(beside.columns) == len(shown.columns)
    assert beside.loc[paper].index[-1] == "MMEL"
    refused("number=4: the MMEL paper has the tables 1, 2 and 3", protocols.beside_paper, shown, 4)


def test_curves_are_drawn_where_there_are_any(clip, tmp_path):
    figure = plots.protocol_curves(
        protocols.measured(compute("retrieval", clip, tmp_path / "curves", n=8)), "Retrieval", "share", "recall"
    )
    assert [len(axis.lines) for axis in figure.axes] == [2] * 4
    noise = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if line.get_label() == "random"]
    assert noise == [("black", "--")]
    without = protocols.measured(compute("confidence", clip, tmp_path / "none", n=8))
    refused("the results have no curves", plots.protocol_curves, without, "", "", "")


def test_a_pair_that_is_not_whole_is_left_out(clip, tmp_path):
    ds = compute("winoground", clip, tmp_path / "odd", n=7)
    assert np.isfinite(protocols.measured(ds).group[:, 0]).values.tolist() == [True, False] * 3 + [False]
    single = altered(source_of("winoground", 4), lambda ds, rows: ds.assign(pair=("sample", rows)))
    none = compute("winoground", clip, tmp_path / "none", single)
    refused("none of the 4 samples is good; the first: left out: its partner is bad", protocols.measured, none)


PLANTED = {"source": open_source("planted", 4)}
UNSAID = replace(open_source("planted", 4, 0, "classes"), prompts=())
BAD = {
    "confidence": [
        ({"methods": ["grad_eclipse"]}, "unknown method 'grad_eclipse': the nearest known ones are grad_eclip"),
        ({"methods": 3}, "methods=3: give names, or labels with a name and options"),
        ({"methods": ["random", "random"]}, "give a list of different names"),
        ({"methods": []}, r"methods=\[\]: give a list of different names, at least one"),
        ({"methods": {}}, "methods={}: give at least one"),
        ({"methods": {"random": 3}}, "'random' is 3: a label is a text, and is given a name, or a name and options"),
        ({"methods": {"random": {"seed": 3}}}, "'random' is {'seed': 3}: a label is a text, and is given a name"),
        ({"methods": {"noise": ("random", {"masks": 3})}}, "unknown option 'masks' of random: it takes seed"),
        ({"shard": "4/3"}, "shard='4/3'"),
        ({"fill": "mean"}, "fill='mean': for the text choose from padding, removed"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"source": "planted"}, "source is a str"),
    ],
    "classification": [
        (PLANTED, "the planted dataset has no class_index"),
        ({"source": UNSAID}, "prompts for 0 classes: at least 6 are needed"),
        ({"steps": 65}, "steps=65: a whole number from 1 to the 64 patches"),
        ({"unit": "word"}, "unit='word'"),
        ({"fill": "grey"}, "fill='grey'"),
    ],
    "retrieval": [
        ({"methods": ["centre"]}, "centre explains the image only"),
        ({"side": "both"}, "side='both': choose from image, text"),
        ({"steps": 0}, "steps=0"),
        ({"side": "image", "fill": "removed"}, "fill='removed': for the image choose from"),
    ],
    "winoground": [
        (PLANTED, "the planted dataset has no pair"),
        ({"share": 1.0}, "share=1.0: a share of the patches above 0 and below 1 is needed"),
    ],
    "foil_images": [(PLANTED, "the planted dataset has no foil_image"), ({"share": True}, "share=True")],
}


@pytest.mark.parametrize(
    ("protocol", "choice", "message"), [(name, *row) for name, rows in BAD.items() for row in rows]
)
def test_impossible_choices_are_refused_before_any_work(clip, tmp_path, protocol, choice, message, monkeypatch):
    monkeypatch.setattr(chosen, "maps_of_pairs", lambda *args, **rest: pytest.fail("worked before it checked"))
    given = {"source": source_of(protocol, 4), "methods": METHODS, **choice}
    refused(message, getattr(protocols, protocol), clip, folder=tmp_path / "parts", **given)
    assert not list(tmp_path.glob("parts/*"))


def test_only_results_are_measured(clip):
    refused("isn't the result of a protocol", protocols.measured, open_source("planted", 4).inputs())
    refused("isn't the result of a protocol", protocols.table, annotate(xr.Dataset(), "evaluation"))
    given = "tiny-clip", open_source("planted", 4), METHODS, "parts"
    refused("clip is a str: a model of load_clip is needed", protocols.confidence, *given)
