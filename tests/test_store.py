"""Stores are whole, checked when saved and when opened, and say what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xaikit as xk
from xaikit.files import store
from xaikit.files.store import content_digest


@pytest.fixture
def scenes():
    return xk.draw_scenes(6, seed=0)


def test_provenance_tells_how_it_was_made(scenes):
    about = store.provenance(scenes)
    assert about["seed"] == 0 and about["parameters"]["n"] == 6 and about["schema_version"] == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda ds: ds.drop_vars("caption"), "'caption' is missing"),
        (lambda ds: ds.assign(image=ds.image.transpose("sample", "x", "y", "rgb")), "'image' has dimensions"),
        (lambda ds: ds.assign(image=ds.image.astype(float).assign_attrs(ds.image.attrs)), "'image' has type float64"),
        (lambda ds: ds.assign(extra=("sample", np.arange(6))), "'extra' .* isn't in the schema"),
        (lambda ds: ds.assign(mark=ds.mark.drop_attrs()), "'mark' lacks the attribute 'long_name'"),
        (lambda ds: ds.drop_attrs(deep=False), "schema version None"),
        (lambda ds: ds.assign_attrs(provenance=json.dumps({"schema_version": 99})), "schema version 99"),
        (lambda ds: ds.assign_attrs(provenance=json.dumps({"schema_version": 1, "stage": "tape"})), "stage 'tape'"),
    ],
)
def test_the_first_difference_is_named(scenes, tmp_path, damage, message):
    with pytest.raises(store.SchemaError, match=message):
        store.write(damage(scenes), tmp_path / "inputs.nc", "inputs")
    assert not list(tmp_path.iterdir())


def test_a_metric_needs_a_direction():
    metric = xr.Dataset({"score": (("sample", "explainer"), np.zeros((2, 1)), {"long_name": "a score", "units": "1"})})
    with pytest.raises(store.SchemaError, match="'score' lacks a score_direction"):
        store.annotate(metric, "evaluation")


def test_a_failed_write_keeps_the_old_file(scenes, tmp_path, monkeypatch):
    path = store.write(scenes, tmp_path / "inputs.nc", "inputs")
    before = path.read_bytes()

    def broken(self, data):
        self.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write(xk.draw_scenes(6, seed=1), path, "inputs")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["inputs.nc"]


def test_a_missing_store_names_its_notebook():
    with pytest.raises(FileNotFoundError, match="run notebook 00_planted_scenes first"):
        xk.open_store("no-such-run", "inputs")


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "inputs.nc").write_text("not a store")
    with pytest.raises(store.SchemaError, match="can't be read as a store"):
        store.read(tmp_path / "inputs.nc", "inputs")


def test_a_store_made_with_other_weights_is_refused(scenes):
    xk.save_store(store.annotate(scenes, "inputs", weights_digest="one"), "made-with", "inputs")
    assert xk.open_store("made-with", "inputs", made_with={"weights_digest": "one"}).sizes["sample"] == 6
    with pytest.raises(ValueError, match="has weights_digest one, not two: run notebook 00_planted_scenes again"):
        xk.open_store("made-with", "inputs", made_with={"weights_digest": "two"})


def test_inputs_are_told_apart(scenes):
    assert store.inputs_digest(scenes) == store.inputs_digest(xk.draw_scenes(6, seed=0))
    assert store.inputs_digest(scenes) != store.inputs_digest(xk.draw_scenes(6, seed=1))


def test_a_store_carries_a_digest_of_what_it_holds(scenes, tmp_path):
    path = store.write(scenes, tmp_path / "inputs.nc", "inputs")
    assert store.digest_in(path) == content_digest(scenes) == content_digest(store.read(path, "inputs"))
    assert store.write(scenes, tmp_path / "again.nc", "inputs").read_bytes() == path.read_bytes()
    for other in (
        scenes.assign(mark=(~scenes.mark).assign_attrs(scenes.mark.attrs)),
        scenes.assign(caption=scenes.caption + " "),
        scenes.assign_coords(sample=scenes.sample + 1),
        scenes.assign_attrs(provenance="{}"),
        scenes.rename(mark="note"),
    ):
        assert content_digest(other) != content_digest(scenes)


def test_a_store_changed_after_it_was_saved_is_refused(scenes, tmp_path):
    path = store.write(scenes, tmp_path / "inputs.nc", "inputs")
    changed = scenes.assign(caption=scenes.caption.str.replace("large", "small").assign_attrs(scenes.caption.attrs))
    changed.assign_attrs(content_digest=store.digest_in(path)).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(
        store.SchemaError, match="inputs.nc isn't what was saved: its digest differs; delete it, and compute it again"
    ):
        store.read(path, "inputs")
    scenes.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(store.SchemaError, match="inputs.nc carries no digest; delete it, and compute it again"):
        store.read(path, "inputs")
