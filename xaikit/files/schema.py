"""What a store may hold: the contract between notebooks, on one page.

Dimensions have the same names everywhere: sample, object, token (a prompt's own tokens, in order), y and x
(pixels), row and col (patches), rgb, block, explainer, step, word_step, depth, answer_token and context_token (of a
multimodal LLM's answer, and of its prompt and then its answer), image (of a conversation), scale, edge, way (deletion
and insertion), label (what is looked for), first (among how many), width (of an embedding), fill (of what is occluded),
estimate (a mean and the ends of its interval), arm and report (of a training). Every variable has a ``long_name`` and
``units`` ("1" where it has none), every metric a ``score_direction``, and every dataset a ``provenance``:
``store.annotate`` fills them in from here.
"""

from dataclasses import dataclass, replace
from functools import partial

VERSION = 1


@dataclass(frozen=True)
class Variable:
    """One variable: its dimensions in order, its kinds of value (numpy's letters), what it is, its units."""

    dims: tuple[str, ...]
    kinds: str
    long_name: str
    units: str = "1"
    required: bool = True


_maybe = partial(Variable, required=False)
_OBJECT = ("sample", "object")
_WORD = ("coupling", "sample", "token")
_SPECTRUM = ("sample", "token", "frequency")
_ABLATION = ("sample", "ablation")
_STATE = ("sample", "state")
_MODE = ("sample", "token", "mode")
_CONTEXT = ("sample", "answer_token", "context_token")
_EACH = ("sample", "explainer")
_CURVE = ("arm", "seed", "report")
_MEASURED = {  # of a claim
    "measured": Variable(("claim",), "f", "effect that was measured"),
    "low": Variable(("claim",), "f", "low end of its 95 % interval"),
    "high": Variable(("claim",), "f", "high end of its 95 % interval"),
    "n": Variable(("claim",), "f", "samples that it was measured on"),
}
_RECOGNISED = _maybe(("sample",), "b", "whether the model prefers the caption to its foils")
_PLACED = ("sample", "explainer", "label", "first")


def _effects(score: str, units: str) -> dict[str, Variable]:
    """Of interventions on planted scenes; positive where what was taken away supports the text."""
    return {
        "score": Variable(("sample",), "f", f"{score} of the scene as it is", units),
        "absent": Variable(_OBJECT, "f", f"{score} lost without the object, NaN where there is none", units),
        "replaced": _maybe(_OBJECT, "f", f"{score} lost with another thing in the object's place", units),
        "mark": Variable(("sample",), "f", f"{score} lost without the corner mark, NaN where there is none", units),
    }


def _guided(name: str, long_name: str, *dims: str) -> dict[str, Variable]:
    """A score of the models of guided training, and of the model from which all of them started."""
    return {
        name: Variable(("arm", "seed", *dims), "f", long_name),
        f"{name}_before": Variable(dims, "f", f"{long_name}, before"),
    }


COORDINATES = {
    "frequency": Variable(("frequency",), "f", "frequency", "cycle/iteration"),
    "time": Variable(("time",), "i", "iteration of the recursion", "iteration"),
}
SCHEMA: dict[str, dict[str, Variable]] = {
    "inputs": {
        "image": Variable(("sample", "y", "x", "rgb"), "u", "RGB image", "0-255"),
        "caption": Variable(("sample",), "UTO", "caption that is true of the image"),
        "token_text": Variable(("sample", "token"), "UTO", "words of the caption, empty after its end"),
        "token_object": _maybe(
            ("sample", "token"), "i", "object that a word names (the first of several alike), -1 none"
        ),
        "object_mask": _maybe((*_OBJECT, "y", "x"), "b", "visible pixels of an object"),
        "object_name": _maybe(_OBJECT, "UTO", "size, colour and noun of an object, empty where there is none"),
        "object_group": _maybe(_OBJECT, "i", "first object of the same colour and noun, -1 where there is none"),
        "object_named": _maybe(_OBJECT, "b", "whether the caption names the object"),
        "object_x": _maybe(_OBJECT, "f", "column of an object's centre", "pixel"),
        "object_y": _maybe(_OBJECT, "f", "row of an object's centre", "pixel"),
        "object_radius": _maybe(_OBJECT, "f", "radius of an object", "pixel"),
        "relation": _maybe(("sample",), "UTO", "relation that the caption states, empty for none"),
        "caption_kind": _maybe(("sample",), "UTO", "kind of caption, or of pair"),
        "background": _maybe(("sample",), "UTO", "kind of background"),
        "mark": _maybe(("sample",), "b", "whether the scene carries the corner mark"),
        "world": _maybe(("sample",), "UTO", "world that the planted scene belongs to"),
        "style": _maybe(("sample",), "UTO", "way in which the objects are drawn"),
        "scene_seed": _maybe(("sample",), "i", "seed of the background, the shades and the noise"),
        "caption_true": _maybe(("sample",), "b", "whether the caption is true of the scene as it is now"),
        "foil": _maybe(("sample",), "UTO", "caption that is false of the image"),
        "pair": _maybe(("sample",), "i", "pair that the sample belongs to"),
        "foil_image": _maybe(("sample", "y", "x", "rgb"), "u", "image of which the caption is false", "0-255"),
        "image_id": _maybe(("sample",), "i", "samples with the same number show the same image"),
        "class_index": _maybe(("sample",), "i", "class of the image, its place among the classes"),
        "attributes": _maybe(("sample",), "UTO", "attributes of the object, with commas between"),
        "similarity": _maybe(("sample",), "f", "cosine similarity of image and caption"),
    },
    "tape": {
        "attention": Variable(
            ("sample", "block", "row", "col"), "f", "attention from the class token, mean over heads"
        ),
        "attention_entropy": Variable(("sample", "block"), "f", "entropy of the class token's attention", "nat"),
        "query_norm": Variable(("sample", "block"), "f", "mean length of the queries"),
        "key_norm": Variable(("sample", "block"), "f", "mean length of the keys"),
        "value_norm": Variable(("sample", "block"), "f", "mean length of the values"),
    },
    "explanations": {
        "heat": _maybe(("sample", "explainer", "row", "col"), "f", "heat of each patch"),
        "word_heat": _maybe(("sample", "explainer", "token"), "f", "heat of each word"),
        "seconds": _maybe(("explainer",), "f", "time to explain one sample", "second"),
    },
    "evaluation": {
        "recognised": _RECOGNISED,
        "deletion_curve": _maybe(("sample", "explainer", "step"), "f", "cosine as the hottest patches go"),
        "insertion_curve": _maybe(("sample", "explainer", "step"), "f", "cosine as the hottest patches come"),
        "fraction": _maybe(("step",), "f", "share of the patches removed or inserted"),
        "word_deletion_curve": _maybe(("sample", "explainer", "word_step"), "f", "cosine as the hottest words go"),
        "word_insertion_curve": _maybe(("sample", "explainer", "word_step"), "f", "cosine as the hottest words come"),
        "word_fraction": _maybe(("word_step",), "f", "share of the words removed or inserted"),
    },
    "effects": _effects("cosine, or places in the ranking,", "1"),
    "answer_effects": {
        "answer": Variable(("sample",), "UTO", "answer whose log-probability it is"),
        **_effects("log-probability of the answer", "nat"),
    },
    "agreement": {
        "intervened": Variable(_OBJECT, "f", "cosine lost by the intervention"),
        "occluded": Variable(("fill", *_OBJECT), "f", "cosine lost by filling the object's patches"),
        "scene_correlation": Variable(("fill", "sample"), "f", "Spearman correlation of both over a scene's objects"),
        "scene_signs": Variable(
            ("fill", "sample"), "f", "share of a scene's objects for which both have the same sign"
        ),
        "rank_correlation": Variable(("fill", "estimate"), "f", "mean of scene_correlation, and its interval"),
        "sign_agreement": Variable(("fill", "estimate"), "f", "mean of scene_signs, and its interval"),
    },
    "resonance": {
        "trajectory": Variable(("sample", "time", "token", "row", "col"), "f", "map of each word at each iteration"),
    },
    "spectrum": {
        "amplitude": Variable((*_SPECTRUM, "row", "col"), "f", "amplitude of each patch and word"),
        "phase": Variable((*_SPECTRUM, "row", "col"), "f", "phase at time 0", "radian"),
        "dominant_frequency": Variable(
            ("sample", "token", "row", "col"), "f", "frequency of the largest amplitude", "cycle/iteration"
        ),
    },
    "modes": {
        "eigenvalue": Variable(_MODE, "c", "eigenvalue of the mode"),
        "amplitude": Variable(_MODE, "f", "norm of the mode's map at time 0"),
        "frequency": Variable(_MODE, "f", "frequency of the mode", "cycle/iteration"),
        "phase": Variable(_MODE, "f", "phase of the mode at time 0", "radian"),
        "growth": Variable(_MODE, "f", "growth rate of the mode", "1/iteration"),
        "energy": Variable(_MODE, "f", "energy of the mode over all iterations"),
        "pattern": Variable((*_MODE, "row", "col"), "c", "spatial pattern of the mode, norm 1"),
        "reconstruction_error": Variable(
            ("sample", "token", "rank"), "f", "relative error of the reconstruction from so many modes"
        ),
    },
    "phases": {
        "step_size": Variable(("sample", "time"), "f", "length of the step to this iteration"),
        "entropy": Variable(("sample", "time"), "f", "spatial entropy of the maps, mean over words", "nat"),
        "boundary": Variable(("sample", "phase"), "i", "iteration at which a phase begins, -1 none", "iteration"),
        "phases": Variable(("sample",), "i", "number of phases"),
    },
    "stability": {
        "jacobian_eigenvalue": Variable((*_WORD, "eigenvalue"), "c", "multiplier of the recursion at its end point"),
        "settling": Variable(_WORD, "i", "iteration from which on the map stays as it is, -1 never", "iteration"),
        "cycle": Variable(_WORD, "i", "iterations after which a map comes back, 1 settled, -1 none found", "iteration"),
        "last_step": Variable(_WORD, "f", "last step, relative to the map"),
        "damping": Variable(_WORD, "f", "modulus of the multiplier that swings longest"),
        "period": Variable(_WORD, "f", "period of the multiplier that swings longest", "iteration"),
        "turn": Variable(_WORD, "f", "angle that it turns by while it fades to 1/e", "radian"),
        "end": Variable((*_WORD, "row", "col"), "f", "last map of each word"),
    },
    "guided_training": {
        "contrastive": Variable(_CURVE, "f", "contrastive loss with swapped captions"),
        "regulariser": Variable(
            _CURVE, "f", "minus the logarithm of the share on what is named, NaN without regulariser"
        ),
        "step": Variable(_CURVE, "f", "mean step of a report"),
        **_guided("recall_at_1", "recall@1 of captions"),
        **_guided("attribute_swap", "share of captions above theirs with colours exchanged"),
        **_guided("relation_swap", "share of captions above theirs with objects exchanged"),
        **_guided("average_precision", "average precision of a map against what is named", *_EACH),
        **_guided("energy", "share of positive heat on what is named", *_EACH),
    },
    "null_spectra": {
        "mean_amplitude": Variable(("sample", "frequency"), "f", "root mean square amplitude over words and patches"),
        "energy_share": Variable(("sample", "frequency"), "f", "share of the oscillating energy"),
        "null_amplitude": Variable(("null", "draw", "frequency"), "f", "mean amplitude where nothing is to be found"),
        "null_share": Variable(("null", "draw", "frequency"), "f", "share of the energy where nothing is to be found"),
        "null_scene_share": _maybe(("null", "draw", "sample", "frequency"), "f", "the same of each sample"),
    },
    "ablation": {
        "change": Variable(_ABLATION, "f", "change of the similarity without the patches"),
        "energy": Variable(_ABLATION, "f", "squared difference of image and fill in the removed patches"),
        "matched": Variable(_ABLATION, "f", "share of random sets that have the energy of the set they are matched to"),
        "overlap": Variable(_ABLATION, "f", "share of a random set that is in the set it is matched to"),
        "random_change": Variable((*_ABLATION, "draw"), "f", "change of the similarity without a matched random set"),
        "random_energy": Variable(
            (*_ABLATION, "draw"), "f", "squared difference of image and fill in a matched random set"
        ),
        "removed": Variable((*_ABLATION, "row", "col"), "b", "whether the patch is removed"),
        "similarity": Variable(("sample",), "f", "cosine similarity of image and caption"),
        "frequency": Variable(("sample",), "f", "frequency of the dominant mode", "cycle/iteration"),
        "mode_share": Variable(("sample",), "f", "share of the dominant mode in the energy of all frequencies above 0"),
    },
    "suppression": {
        "energy": Variable(_STATE, "f", "energy of the mode that dominates the clean image"),
        "total_energy": Variable(_STATE, "f", "resonance energy of all frequencies above 0"),
        "similarity": Variable(_STATE, "f", "cosine similarity of image and caption"),
        "rank_correlation": Variable(_STATE, "f", "Spearman correlation of the resonance map with the clean image's"),
        "size": Variable(_STATE, "f", "largest change of a pixel"),
        "resonance_map": Variable(
            (*_STATE, "row", "col"), "f", "resonance energy of all frequencies above 0, summed over words"
        ),
        "image": Variable((*_STATE, "y", "x", "rgb"), "f", "RGB image as the model gets it", "0-1"),
        "course": Variable(("sample", "update"), "f", "lowest energy of the mode so far"),
        "frequency": Variable(
            ("sample",), "f", "frequency of the mode that dominates the clean image", "cycle/iteration"
        ),
    },
    "concepts": {
        "sample": Variable(("concept",), "iuUTO", "sample that a concept is of"),
        "band": Variable(("concept",), "i", "band of frequencies, 0 the lowest"),
        "mask": Variable(("concept", "row", "col"), "b", "patches of a concept"),
        "label": Variable(("concept",), "UTO", "words that a concept goes with, empty for none"),
        "energy": Variable(("concept",), "f", "share of the sample's oscillating energy"),
        "silhouette": Variable(("concept",), "f", "mean silhouette of the band's clusters, NaN for a single one"),
        "link_source": Variable(("link",), "i", "concept in the lower band, its place along the dimension"),
        "link_target": Variable(("link",), "i", "concept in the band above, its place along the dimension"),
        "mutual_information": Variable(("link",), "f", "mutual information of both masks", "nat"),
        "normalised_information": Variable(("link",), "f", "mutual information over the mean of both entropies"),
    },
    "mllm": {
        "token_heat": Variable(("sample", "explainer", "answer_token", "row", "col"), "f", "heat of each image token"),
        "relevance": Variable(_CONTEXT, "f", "logit of the token's word at the state of a context token, if positive"),
        "rank_overlap": Variable(
            ("sample", "explainer", *_CONTEXT[1:]), "f", "rank-biased overlap with a context token's predictions"
        ),
        "log_probability": Variable(("sample", "scale", "answer_token"), "f", "log-probability of each token", "nat"),
        "prompt": Variable(("sample",), "UTO", "prompt"),
        "answer": Variable(("sample",), "UTO", "answer that is explained"),
        "ended": Variable(("sample",), "b", "whether the answer ended by itself, or was given"),
        "answer_text": Variable(
            ("sample", "answer_token"), "UTO", "tokens of the answer, with a blank before those that start a word"
        ),
        "answer_id": Variable(("sample", "answer_token"), "i", "ids of the answer's tokens, -1 after its end"),
        "context_text": Variable(("sample", "context_token"), "UTO", "tokens of the prompt, then of the answer"),
        "grid": Variable(("sample", "axis"), "i", "rows and columns of the map that are the sample's own"),
        "region": Variable(("sample", "edge"), "f", "part of the image that the map covers, in shares of its sides"),
    },
    "claims": {
        "sentence": _maybe(("claim",), "UTO", "sentence that the claim is read from"),
        "needs": _maybe(("claim",), "UTO", "whether the sentence needs all of its claims, or any"),
        "paper": Variable(("claim",), "UTO", "paper that makes the claim"),
        "where": Variable(("claim",), "UTO", "section or table"),
        "text": Variable(("claim",), "UTO", "the paper's words"),
        "claimed": Variable(("claim",), "UTO", "number that is claimed, empty for none"),
        "statement_tested": Variable(("claim",), "UTO", "how the claim is tested"),
        "notebook": Variable(("claim",), "UTO", "notebook that tests it"),
        **_MEASURED,
        "detectable": Variable(("claim",), "f", "smallest effect found with 80 % power among as many claims"),
        "margin": Variable(("claim",), "f", "size below which an effect is none, 0 where that can't be said"),
        "p_holds": Variable(("claim",), "f", "p value of its holding against all rivals and controls"),
        "p_fails": Variable(("claim",), "f", "p value of its failing against a rival that it names"),
        "p_same": Variable(("claim",), "f", "p value of an effect within the margin"),
        "holds_if": Variable(("claim",), "UTO", "what the interval must show for the claim to hold"),
        "verdict": Variable(("claim",), "UTO", "whether the claim holds here"),
        "note": Variable(("claim",), "UTO", "arithmetic, reason, or what was compared"),
    },
    "replication": {
        "sentence": Variable(("claim",), "UTO", "sentence that the claim is read from"),
        "verdict": Variable(("claim",), "UTO", "whether it holds for this model"),
        "recognised": _RECOGNISED,
        **_MEASURED,
    },
    "bad_samples": {
        "dataset": Variable(("bad",), "UTO", "dataset that the sample is of"),
        "sample_name": Variable(("bad",), "UTO", "the sample's label"),
        "reason": Variable(("bad",), "UTO", "why it could not be used"),
    },
    "sweep": {
        "score": Variable(("row",), "f", "mean score of a row of choices"),
    },
    "protocol": {
        "finite": _maybe(_EACH, "f", "whether all values of the map are finite"),
        "image_drop": _maybe(_EACH, "f", "cosine lost when the map weights the image, times 100"),
        "image_increase": _maybe(_EACH, "f", "whether the cosine rises then", "percent"),
        "text_drop": _maybe(_EACH, "f", "cosine lost when only the hot words are left, times 100"),
        "text_increase": _maybe(_EACH, "f", "whether the cosine rises then", "percent"),
        "deletion": _maybe(_PLACED, "f", "area under the deletion curve"),
        "insertion": _maybe(_PLACED, "f", "area under the insertion curve"),
        "deletion_curve": _maybe(
            (*_PLACED, "step"), "f", "whether the class is among the first as the hottest patches go"
        ),
        "insertion_curve": _maybe(
            (*_PLACED, "step"), "f", "whether the class is among the first as the hottest patches come"
        ),
        "pair": _maybe(("sample",), "if", "pair that the sample belongs to"),
        "similarity": _maybe(("sample",), "f", "cosine of the image and its caption"),
        "foil_similarity": _maybe(("sample",), "f", "cosine of the same, but for a false one"),
        "similarity_left": _maybe((*_EACH, "way"), "f", "cosine with the caption, without or with only the hottest"),
        "foil_similarity_left": _maybe((*_EACH, "way"), "f", "cosine of the same, but for a false one"),
    },
    "embeddings": {
        "finite": _maybe(_EACH, "f", "whether all values of the map are finite"),
        "other": _maybe(("sample", "width"), "f", "embedding of the intact other side"),
        "version": _maybe((*_EACH, "way", "step", "width"), "f", "embedding as the hottest go, or come"),
        "caption": _maybe(("sample",), "UTO", "caption that is true of the image"),
        "image_id": _maybe(("sample",), "if", "samples with the same number show the same image"),
    },
}

_BY_IMAGE = {
    "token_heat": ("sample", "explainer", "image", "answer_token", "row", "col"),
    "grid": ("sample", "image", "axis"),
    "region": ("sample", "image", "edge"),
}
SCHEMA["conversations"] = SCHEMA["mllm"] | {
    name: replace(SCHEMA["mllm"][name], dims=dims) for name, dims in _BY_IMAGE.items()
}

# Stages that also take variables not named above, as long as these have the dimensions given here.
OPEN_STAGES = {
    "evaluation": (("sample", "explainer"), ("explainer",), ("explainer", "step"), ("sample", "explainer", "depth")),
    "replication": (("sample", "explainer"),),
    "sweep": (("row",),),
}
DIRECTIONS = HIGHER, LOWER, NEITHER = "higher is better", "lower is better", "neither"
