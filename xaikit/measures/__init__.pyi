from . import (
    effects as effects,
    intervals as intervals,
    localisation as localisation,
    maps as maps,
    planted_tokens as planted_tokens,
    token_iou as token_iou,
    words as words,
)
