"""The papers' protocols as measurements: planted truth beats controls, and small cases worked out by hand."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from altered_sources import altered, held, knowing, with_foils
from refusals import refused

import xaikit as xk
from xaikit.evaluation import faithfulness, protocols, retrieval
from xaikit.evaluation.protocols import faithfulness as class_curves
from xaikit.evaluation.retrieval import found_first, retrieval_faithfulness
from xaikit.files.store import annotate
from xaikit.samples.layouts import open_source


@cache
def source_of(kind, n=24):
    return held(open_source("planted", n, 2, kind))


@pytest.mark.parametrize(
    ("protocol", "kind", "choices"),
    [
        ("confidence", "captions", {}),
        ("classification", "classes", {"steps": 4}),
        ("classification", "classes", {"steps": 2, "unit": "pixel", "fill": "black"}),
        ("retrieval", "captions", {"steps": 4}),
        ("retrieval", "captions", {"steps": 4, "side": "image"}),
        ("winoground", "pairs", {}),
        ("foil_images", "pairs", {}),
    ],
)
def test_the_planted_truth_beats_noise_and_its_inverse(clip, tmp_path, protocol, kind, choices, monkeypatch):
    source = source_of(kind)
    knowing(monkeypatch, source.inputs())
    if protocol == "foil_images":
        source = with_foils(source)
    ds = getattr(protocols, protocol)(clip, source, ["truth", "inverse", "random"], tmp_path, **choices)
    found = protocols.measured(ds)
    shown = protocols.table(found)
    compared = 0
    for name in shown:
        if name in ("text", "image", "group", "accuracy"):
            assert shown[name].nunique() == 1 and shown[name].iloc[0] > 0.9
            continue
        sign = -1 if found[name].attrs["score_direction"] == "lower is better" else 1
        if name == "text increase":  # half of a caption's words, however well chosen, seldom say more than the whole
            continue
        better = sign * (shown[name]["truth"] - shown[name][["inverse", "random"]])
        assert (better > 0).all(), (name, shown[name].to_dict())
        compared += 1
    expected = {"confidence": 3, "classification": 8, "retrieval": 4, "winoground": 6, "foil_images": 2}
    assert compared == expected[protocol]


def embeddings(version, other, side="text", **variables):
    """A dataset as parts of retrieval give it, of one method and way, from versions (sample, step, width)."""
    version, other = (F.normalize(torch.tensor(part, dtype=torch.float32), dim=-1).numpy() for part in (version, other))
    n, steps, _ = version.shape
    ds = xr.Dataset(
        {
            "version": (("sample", "explainer", "way", "step", "width"), version[:, None, None]),
            "other": (("sample", "width"), other),
            "finite": (("sample", "explainer"), np.ones((n, 1))),
            **{name: ("sample", values) for name, values in variables.items()},
        },
        {
            "sample": np.arange(n).astype(str), "explainer": ["a"], "way": ["deletion"], "step": np.linspace(0, 1, steps),
            "error": ("sample", np.full(n, "")),
        },
    )  # fmt: skip
    about = {"protocol": "retrieval", "model": "m", "layout": "l", "options": {"side": side}}
    return annotate(ds, "embeddings", made_with=about)


def test_retrieval_with_several_captions_an_image_by_hand():
    """Image 0 at 0 degrees has captions 0, 1 and 2, image 1 at 90 degrees has 3 and 4."""
    degrees = lambda values: np.stack([np.cos(np.radians(values)), np.sin(np.radians(values))], -1)  # noqa: E731
    images = degrees(np.array([0, 0, 0, 90, 90]))
    before, after = degrees(np.array([10, 80, 30, 85, 20])), degrees(np.array([60, 80, 50, 85, 20]))
    ds = embeddings(np.stack([before, after], 1), images, caption=list("abcde"), image_id=np.array([7, 7, 7, 3, 3]))
    found = protocols.measured(ds)
    # caption 1 is nearer to image 1, caption 4 to image 0; later also 0 and 2 are nearer to image 1
    np.testing.assert_allclose(found["deletion IR curve"][0], [3 / 5, 1 / 5])
    np.testing.assert_allclose(found["deletion IR"][:, 0], [1 / 3, np.nan, np.nan, 0.5, np.nan])  # an image counts once
    # nearest to image 0 is caption 0 (10 degrees), then caption 4 (20); to image 1 caption 3 (5 degrees off)
    np.testing.assert_allclose(found["deletion TR curve"][0], [1, 1 / 2])
    np.testing.assert_allclose(found["deletion TR"][:, 0], [0.5, np.nan, np.nan, 1, np.nan])
    assert protocols.table(found).loc["a"].to_dict() == pytest.approx({"deletion IR": 5 / 12, "deletion TR": 0.75})
    # with the same words, caption 4 of image 1 is true of image 0 as well, and found there
    same = protocols.measured(ds.assign(caption=("sample", list("abcda"))))
    np.testing.assert_allclose(same["deletion IR"][:, 0], [0.5, np.nan, np.nan, 1, np.nan])
    np.testing.assert_allclose(same["deletion TR"][:, 0], [1, np.nan, np.nan, 1, np.nan])


def test_images_are_searched_by_their_first_caption_alone():
    texts = np.array([[1.0, 0], [0, 1], [0, 1]])
    changed = np.array([[[1.0, 0.1]] * 2, [[1, 0.2]] * 2, [[0.1, 1]] * 2])
    ds = embeddings(changed, texts, "image", caption=list("abc"), image_id=np.array([5, 5, 6]))
    found = protocols.measured(ds)
    np.testing.assert_allclose(found["deletion IR"][:, 0], [1, np.nan, 1])
    np.testing.assert_allclose(found["deletion TR"][:, 0], [1, np.nan, 1])


def test_ties_count_by_the_share_of_right_ones():
    """Alike but for rounding, as prompts without a word: cosines that differ by 5e-7."""
    texts, images = torch.tensor([[1.0, 0]] * 4), torch.tensor([[1, 0], [1 - 5e-7, 1e-3]])
    of_text, of_image = found_first(texts, images, np.array(list("abcd")), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(of_text, [0.5] * 4)
    np.testing.assert_allclose(of_image, [0.75, 0.25])


def test_a_few_queries_at_a_time_are_as_good_as_all(monkeypatch):
    rng = np.random.default_rng(0)
    texts, images = (F.normalize(torch.tensor(rng.normal(size=(n, 8))), dim=-1) for n in (50, 20))
    image = np.concatenate([np.arange(20), rng.integers(0, 20, 30)])
    caption = rng.integers(0, 40, 50).astype(str)
    true_of = {(caption[i], image[i]) for i in range(50)}
    cosine = (texts @ images.T).numpy()
    expected = (
        [(caption[i], cosine[i].argmax()) in true_of for i in range(50)],
        [(caption[cosine[:, m].argmax()], m) in true_of for m in range(20)],
    )
    assert 0 < np.mean(expected[0]) < 1 and 0 < np.mean(expected[1]) < 1
    for queries in (256, 7):
        monkeypatch.setattr("xaikit.evaluation.retrieval.QUERIES", queries)
        for ours, theirs in zip(found_first(texts, images, caption, image), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_steps_read_one_at_a_time_are_those_read_together(clip, tmp_path, monkeypatch):
    ds = protocols.retrieval(clip, source_of("captions"), ["random"], tmp_path, steps=3)
    together = protocols.measured(ds)
    monkeypatch.setattr(retrieval, "AT_ONCE", 1)
    xr.testing.assert_identical(protocols.measured(ds), together)


@pytest.mark.parametrize("side", ["text", "image"])
def test_retrieval_in_parts_is_that_of_the_metric(clip, tmp_path, side):
    scenes = source_of("captions").inputs()
    maps = xk.explain_all(clip, scenes.image, scenes.caption, ["chefer"], of=side)
    expected = retrieval_faithfulness(clip, maps["word_heat" if side == "text" else "heat"], scenes, steps=4)
    ds = protocols.retrieval(clip, source_of("captions"), ["chefer"], tmp_path, side=side, steps=4)
    found = protocols.measured(ds)
    for search in ("IR", "TR"):
        for way in ("deletion", "insertion"):
            curve = expected[f"{search.lower()}_{way}_curve"]
            np.testing.assert_allclose(found[f"{way} {search} curve"], curve, atol=1e-6)
            area = float(expected[f"{search.lower()}_{way}_auc"][0])
            assert protocols.table(found).loc["chefer", f"{way} {search}"] == pytest.approx(area)


def test_only_the_first_good_caption_of_an_image_perturbs_it(clip, tmp_path):
    images = source_of("captions").inputs().image.values
    twice = altered(
        source_of("captions", 8),
        lambda ds, rows: ds.assign(
            image=(ds.image.dims, images[rows // 2]), image_id=("sample", rows // 2),
        ).assign_coords(error=("sample", np.where(rows == 2, "unreadable", ""))),
    )  # fmt: skip
    ds = protocols.retrieval(clip, twice, ["random"], tmp_path, side="image", steps=2)
    assert ds.finite[:, 0].fillna(-1).values.tolist() == [1, -1, -1, 1, 1, -1, 1, -1]
    found = protocols.measured(ds)
    for name in ("deletion IR", "insertion TR"):
        assert np.flatnonzero(np.isfinite(found[name][:, 0])).tolist() == [0, 3, 4, 6]
    text = protocols.measured(protocols.retrieval(clip, twice, ["random"], tmp_path / "text", steps=2))
    for name in ("deletion IR", "deletion TR"):
        assert np.flatnonzero(np.isfinite(text[name][:, 0])).tolist() == [0, 3, 4, 6]


def paired(own, foil):
    """A dataset as parts of winoground give it, from cosines (sample,) before masking, and after it of one method."""
    after = {"deletion": ([0.1] * len(own[0]), [0.2] * len(own[0])), "insertion": (own[1], foil[1])}
    ds = xr.Dataset(
        {
            "pair": ("sample", np.arange(len(own[0])) // 2), "finite": (("sample", "explainer"), np.ones((len(own[0]), 1))),
            "similarity": ("sample", own[0]), "foil_similarity": ("sample", foil[0]),
            "similarity_left": (("sample", "explainer", "way"), np.stack([after[way][0] for way in after], -1)[:, None]),
            "foil_similarity_left": (("sample", "explainer", "way"), np.stack([after[way][1] for way in after], -1)[:, None]),
        },
        {"sample": np.arange(len(own[0])), "explainer": ["a"], "way": list(after), "error": ("sample", [""] * len(own[0]))},
    )  # fmt: skip
    return annotate(ds, "protocol", made_with={"protocol": "winoground", "model": "m", "layout": "l"})


def test_winogrounds_scores_by_hand():
    """Of a pair s(C0, I0), s(C1, I1) are its own cosines, s(C1, I0), s(C0, I1) those with the other's caption."""
    own = np.array([0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.5])
    foil = np.array([
        0.4, 0.3,  # both images and both captions right
        0.4, 0.55,  # C0 is nearer to I1 (0.55 > 0.5): the image score fails alone
        0.55, 0.3,  # I0 is nearer to C1 (0.55 > 0.5): the text score fails alone
        0.5, 0.4,  # a tie is no success
    ])  # fmt: skip
    found = protocols.measured(paired((own, own), (foil, foil)))
    for suffix, expected in (
        ("", ([1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0])), (" without hottest", ([0] * 4,) * 3),
        (" hottest only", ([1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0])),
    ):  # fmt: skip
        for name, scores in zip(("text", "image", "group"), expected, strict=True):
            np.testing.assert_array_equal(found[f"{name}{suffix}"][::2, 0], scores, err_msg=name + suffix)
            assert np.isnan(found[f"{name}{suffix}"][1::2]).all()
    assert protocols.table(found).loc["a", ["text", "image", "group"]].tolist() == [0.5, 0.5, 0.25]


def test_winoground_masks_each_image_by_its_own_map(clip, tmp_path):
    scenes = source_of("pairs", 4).inputs()
    ds = protocols.winoground(clip, source_of("pairs", 4), ["grad_eclip"], tmp_path, share=0.5, fill="black")
    cosine = clip.similarity(scenes.image, scenes.caption)
    np.testing.assert_allclose(ds.similarity, cosine.diagonal(), atol=1e-5)
    np.testing.assert_allclose(ds.foil_similarity, cosine[range(4), [1, 0, 3, 2]], atol=1e-5)
    heat = xk.explain("grad_eclip", clip, scenes.image, scenes.caption).values
    place = faithfulness.ranks(heat[:, None], 0)[:, 0].reshape(4, 8, 8)
    hot = np.repeat(np.repeat(place < 32, 8, 1), 8, 2)[..., None]
    for row, kept in enumerate((~hot, hot)):
        left = clip.similarity(np.where(kept, scenes.image, 0).astype(np.uint8), scenes.caption)
        np.testing.assert_allclose(ds.similarity_left[:, 0, row], left.diagonal(), atol=1e-5)
        np.testing.assert_allclose(ds.foil_similarity_left[:, 0, row], left[range(4), [1, 0, 3, 2]], atol=1e-5)


def test_foil_images_are_masked_by_their_own_maps(clip, tmp_path):
    scenes = source_of("pairs", 4).inputs()
    source = with_foils(source_of("pairs", 4))
    ds = protocols.foil_images(clip, source, ["grad_eclip"], tmp_path)
    cosine = clip.similarity(scenes.image, scenes.caption)
    np.testing.assert_allclose(ds.foil_similarity, cosine[[1, 0, 3, 2], range(4)], atol=1e-5)
    turned = altered(source, lambda ds, rows: ds.assign(image=ds.foil_image, foil_image=ds.image))
    other = protocols.foil_images(clip, turned, ["grad_eclip"], tmp_path / "turned")
    np.testing.assert_allclose(ds.foil_similarity_left, other.similarity_left, atol=1e-5)
    shown, opposite = protocols.table(ds), protocols.table(other)
    np.testing.assert_allclose(shown + opposite, 1)


def test_class_curves_are_those_of_each_class_by_itself(clip, tmp_path):
    """The true class of every second image is made a wrong one: there the map explains another prompt than elsewhere."""
    plain = source_of("classes", 6)

    def change(ds, rows):
        return ds.assign(class_index=ds.class_index + (rows % 2) * (7 - 14 * (ds.class_index > 39)))

    wrong = altered(plain, change)
    scenes, prompts = wrong.inputs(), list(plain.prompts)
    truth = scenes.class_index.values
    predicted = clip.similarity(scenes.image, prompts).argmax(1).numpy()
    assert 0 < (truth != predicted).sum() < 6
    ds = protocols.classification(clip, wrong, ["grad_eclip"], tmp_path, steps=3).load()
    pixels = clip.pixels(scenes.image)
    for label, index in (("truth", truth), ("prediction", predicted)):
        said = [prompts[place] for place in index]
        heat = xk.explain("grad_eclip", clip, scenes.image, said).values[:, None]
        for first in (1, 5):
            shares, *both = faithfulness.deletion_insertion(
                clip, heat, pixels, clip.tokens(said), steps=3, score=f"top{first}", label=index, candidates=prompts
            )
            for way, curve in zip(("deletion", "insertion"), both, strict=True):
                place = {"label": label, "first": first}
                np.testing.assert_array_equal(ds[f"{way}_curve"].sel(place), curve, err_msg=f"{label} {first} {way}")
                np.testing.assert_allclose(ds[way].sel(place), np.trapezoid(curve, shares), atol=1e-6)
    np.testing.assert_array_equal(ds.step, np.array([0, 21, 43, 64]) / 64)  # whole patches
    shown = protocols.measured(ds)
    assert float(shown["prediction deletion @1 curve"][0, 0]) == 1 > float(shown["deletion @1 curve"][0, 0])
    assert protocols.table(shown).loc["grad_eclip", "prediction insertion @5"] == pytest.approx(
        float(ds.insertion[:, 0, 1, 1].mean())
    )


def test_class_embeddings_may_be_means_over_templates(clip, tmp_path, monkeypatch):
    source = source_of("classes", 4)
    monkeypatch.setattr(class_curves, "OPENAI_IMAGENET_TEMPLATES", ["a {}".format, "a large {}".format])
    found = class_curves.class_embeddings(clip, source, ensemble=True)
    one, large = (
        clip.encode_text(clip.tokens([said.format(name) for name in source.classes])) for said in ("a {}", "a large {}")
    )
    torch.testing.assert_close(found, F.normalize(one + large, dim=-1))
    # where all classes have one template without their names, each is always among the first
    monkeypatch.setattr(class_curves, "OPENAI_IMAGENET_TEMPLATES", [lambda name: "a red ring"])
    for chosen in (False, True):
        folder = tmp_path / str(chosen)
        ds = protocols.classification(clip, source, ["random"], folder, steps=2, ensemble=chosen)
        assert bool((ds.deletion_curve == 1).all()) == chosen


def test_several_scores_of_one_embedding_are_those_of_each(clip):
    scenes = source_of("captions", 6).inputs()
    inputs = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    names = ("top1", "similarity", "probability")
    heat = np.random.default_rng(0).random((6, 2, 8, 8))
    words = np.random.default_rng(0).random((6, 2, int(clip.content(inputs[1]).sum(1).max())))
    for of, maps in (("image", heat), ("text", words)):
        for steps in (1, 3):
            together, *each = (
                faithfulness.deletion_insertion(clip, maps, *inputs, of, steps, score=score)[1:]
                for score in (names, *names)
            )
            for way in (0, 1):
                assert together[way].shape == (6, 2, steps + 1, 3)
                np.testing.assert_array_equal(together[way], np.stack([one[way] for one in each], -1))
    refused("score='logit'", faithfulness.deletion_insertion, clip, heat, *inputs, score=("top1", "logit"))
    refused(r"score=\(\): at least one of", faithfulness.deletion_insertion, clip, heat, *inputs, score=())
