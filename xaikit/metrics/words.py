"""Where the heat of a text explanation lies among the words."""

import numpy as np

# Words that name nothing: articles, conjunctions, prepositions, pronouns, forms of "to be", punctuation.
# The relation words of the scenes (left, right, above, below) say something that can be true or false.
FUNCTION_WORDS = frozenset(
    "a an the this that these those and or but nor so yet of to in on at by for with from as into onto it its he she they"
    " his her their there here is are was were be been being am has have had do does did will would can could , . ; : ! ? '"
    ' " - ( )'.split()
)


def content_share(word_heat: np.ndarray, token_text: np.ndarray) -> np.ndarray:
    """Share of the positive word heat on content words, against function words; higher is better.

    word_heat (n, explainers, tokens), token_text (n, tokens) with "" after a prompt's end. A map without
    positive heat gets 0. Its chance level is the share of content words, see ``content_words``.
    """
    heat = np.maximum(word_heat, 0) * (token_text != "")[:, None]
    total = heat.sum(-1)
    return (heat * content_words(token_text)[:, None]).sum(-1) / np.where(total == 0, 1, total)


def content_words(token_text: np.ndarray) -> np.ndarray:
    """Which tokens are content words, in the shape of ``token_text``."""
    lower = np.char.lower(token_text.astype(str))
    return ~np.isin(lower, list(FUNCTION_WORDS)) & (lower != "")
