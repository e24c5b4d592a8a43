from .conversations import answer_ids as answer_ids, generate as generate
from .explanation import (
    TOKEN_METHODS as TOKEN_METHODS,
    explain_all_tokens as explain_all_tokens,
    explain_tokens as explain_tokens,
    token_methods as token_methods,
)
from .loading import load_mllm as load_mllm
from .memory import Sizes as Sizes
from .methods import token_method as token_method
from .model import Mllm as Mllm
from .numerics import WEIGHTINGS as WEIGHTINGS
from .passes import States as States, teacher_forced as teacher_forced
from .steps import PRESETS as PRESETS, Steps as Steps
from .view import View as View
