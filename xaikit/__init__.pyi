from . import (
    clip as clip,
    evaluation as evaluation,
    explainers as explainers,
    explorer as explorer,
    files as files,
    measures as measures,
    mllm as mllm,
    plots as plots,
    resonance as resonance,
    running as running,
    samples as samples,
)
from .clip import load_clip as load_clip, record as record
from .evaluation import claims as claims, evaluate as evaluate, protocols as protocols
from .explainers import (
    explain as explain,
    explain_all as explain_all,
    explain_source as explain_source,
    methods as methods,
)
from .explorer import explore as explore
from .files import open_store as open_store, save_store as save_store
from .mllm import explain_all_tokens as explain_all_tokens, explain_tokens as explain_tokens, load_mllm as load_mllm
from .running import open_sweep as open_sweep
from .samples import (
    draw_descriptions as draw_descriptions,
    draw_pairs as draw_pairs,
    draw_scenes as draw_scenes,
    draw_suite as draw_suite,
    moved as moved,
    open_inputs as open_inputs,
    open_source as open_source,
    replaced as replaced,
    unmarked as unmarked,
    without as without,
)
