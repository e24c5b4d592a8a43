"""The models that the parameters of notebooks name: looked up, and fetched from the hub, before any kernel starts.

A kernel has no terminal to show a download in, and keeps off the network.
"""

from collections.abc import Iterable, Mapping

from ..files.paths import bundled, find_named, notebooks_folder


def fetch_models(several: Iterable[Mapping[str, object]]) -> None:
    """Have whatever the hub holds of the models that notebooks take: weights, configurations, tokenizers.

    several : for each notebook its parameters by name, with those left at their defaults. Raises what ``load_clip`` and
    ``load_mllm`` do for a model that isn't there, all names being looked up before the first is fetched.
    """
    several = list(several)
    clips = {(values["model"], values.get("pretrained")): None for values in several if "model" in values}
    clips |= {(values["other"], None): None for values in several if "other" in values}
    known = bundled("open_clip_config.json")
    clips = [choice for choice in clips if choice[0] not in known or choice[1] is not None]
    multimodal = {values["multimodal_model"]: None for values in several if "multimodal_model" in values}
    multimodal = [name for name in multimodal if name not in bundled("processor_config.json")]
    if clips:
        from ..clip.loading import check_clip
        from ..clip.published import fetch_clip

        clips = [
            (_whole(name) if ":" in name else name, pretrained and _whole(pretrained)) for name, pretrained in clips
        ]
        for choice in clips:
            check_clip(*choice)
        for choice in clips:
            fetch_clip(*choice, tokenizer=True)
    if multimodal:
        from ..mllm.loading import fetch_mllm

        for name in multimodal:
            fetch_mllm(_whole(name))


def _whole(name: str) -> str:
    """What it is to a kernel, which works in the notebooks' folder: a default may name a file or folder from there."""
    return str(find_named(name, ("local-dir",), notebooks_folder()) or name)
