from .conversations import answer_ids as answer_ids, generate as generate
from .explanation import (
    TOKEN_METHODS as TOKEN_METHODS,
    explain_all_tokens as explain_all_tokens,
    explain_tokens as explain_tokens,
)
from .family import View as View
from .methods import token_method as token_method
from .model import Mllm as Mllm, load_mllm as load_mllm
from .passes import States as States, teacher_forced as teacher_forced
from .steps import PRESETS as PRESETS, Steps as Steps
from .tam import WEIGHTINGS as WEIGHTINGS
