"""The models that the parameters of notebooks name: looked up, and fetched from the hub, before any kernel starts.

A kernel has no terminal to show a download in, and keeps off the network.
"""

from collections.abc import Iterable, Mapping

from ..files.paths import bundled, notebooks_folder


def fetch_models(several: Iterable[Mapping[str, object]]) -> None:
    """Have whatever the hub holds of the models that notebooks take: weights, configurations, tokenizers.

    several : for each notebook its parameters by name, with those left at their defaults. Raises what ``load_clip`` and
    ``load_mllm`` do for a model that isn't there, all names being looked up before the first is fetched.
    """
    several = list(several)
    clips = {(values["model"], values.get("pretrained")): None for values in several if "model" in values}
    clips |= {(values["other"], None): None for values in several if "other" in values}
    known = bundled("open_clip_config.json")
    clips = [_in_kernel(*choice) for choice in clips if choice[0] not in known or choice[1] is not None]
    multimodal = {values["multimodal_model"]: None for values in several if "multimodal_model" in values}
    multimodal = [name for name in multimodal if name not in bundled("processor_config.json")]
    if clips:
        from ..clip.loading import check_clip
        from ..clip.published import fetch_text_config, fetch_tokenizer, fetch_weights

        for choice in clips:
            check_clip(*choice)
        for name, pretrained in clips:
            fetch_weights(name, pretrained)
            fetch_text_config(name)
            fetch_tokenizer(name)
    if multimodal:
        from ..mllm.loading import fetch_mllm

        for name in multimodal:
            folder = notebooks_folder() / name  # where a kernel looks for it
            fetch_mllm(str(folder) if folder.is_dir() else name)


def _in_kernel(name: str, pretrained: str | None) -> tuple[str, str | None]:
    """Name and weights of a CLIP, with whole paths: kernels work in the notebooks' folder."""
    if name.startswith("local-dir:"):
        name = f"local-dir:{notebooks_folder() / name.removeprefix('local-dir:')}"
    if pretrained is not None and (path := notebooks_folder() / pretrained).is_file():
        pretrained = str(path)
    return name, pretrained
