"""Words: which of them say something, what tokens they are made of, and where a text explanation's heat lies among them.

Two lists of function words stand side by side. ``captions.FUNCTION_WORDS`` are those that name nothing in a scene,
prepositions, forms of "to be" and punctuation among them. ``CLOSED_CLASS_WORDS`` stand for the tags of the Penn Treebank
that TAM's evaluation counts as function words, where there is no tagger; prepositions (IN), numbers (CD), "to" and every
verb but the modals are not among these. Either list in the other's place would change what was published or stored.
"""

import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ..files.checks import check_choices, check_whole
from ..samples.captions import FUNCTION_WORDS, PADDING, name_objects
from .maps import by_explainer

Tagger = Callable[[str], str]  # a word to its tag of the Penn Treebank
Lemmatiser = Callable[[str], str]

NOUN_TAGS = frozenset("NN NNS NNP NNPS".split())
FUNCTION_TAGS = frozenset("CC DT EX MD POS PRP PRP$ UH WDT WP WP$ WRB".split())
# These tags are closed classes, so without a tagger their words can be listed.
CLOSED_CLASS_WORDS = frozenset(
    # conjunctions and determiners
    "and or but nor yet so plus & either neither both a an the this that these those each every some any no all another"
    # "there", modal verbs with their short forms, the possessive ending
    " there can cannot could may might must shall should will would ought 'll 'd 's"
    # pronouns, possessives
    " i you he she it we they me him her us them myself yourself himself herself itself ourselves yourselves themselves"
    " mine yours hers ours theirs my your his its our their"
    # interjections
    " oh yes please hello hi hey wow ah uh um ouch alas bye goodbye"
    # words that ask or relate
    " which what whatever whichever who whom whoever whomever whose how when where why whenever wherever".split()
)
_ENDINGS = {
    "s": "", "ses": "s", "ves": "f", "xes": "x", "zes": "z", "ches": "ch", "shes": "sh", "men": "man", "ies": "y",
}  # fmt: skip
_IRREGULAR = {
    "knives": "knife", "wolves": "wolf", "wives": "wife", "lives": "life", "mice": "mouse", "children": "child",
    "teeth": "tooth", "feet": "foot", "geese": "goose", "oxen": "ox", "dice": "die", "loaves": "loaf",
}  # fmt: skip


def readable(token: str) -> str:
    r"""A token without the blank that starts a word; blanks and line breaks alone are spelled out.

    Examples
    --------
    >>> [readable(token) for token in (" ring", "\n")]
    ['ring', '\\n']
    """
    return token.strip() or repr(token)[1:-1].replace(" ", "\u2423")


def content_share(word_heat: np.ndarray, token_text: np.ndarray) -> np.ndarray:
    """Share of the positive word heat on content words, against function words; higher is better.

    word_heat (n, explainers, tokens), token_text (n, tokens), the whole words, with "" after a prompt's end. A map without
    positive heat gets NaN. Its chance level is the share of content words, see ``content_words``.
    """
    heat = np.maximum(word_heat, 0) * (token_text != "")[:, None]
    total = heat.sum(-1)
    share = (heat * content_words(token_text)[:, None]).sum(-1)
    return np.divide(share, total, out=np.full(total.shape, np.nan), where=total > 0)


def content_words(token_text: np.ndarray) -> np.ndarray:
    """Which tokens are content words, in the shape of ``token_text``."""
    lower = np.char.lower(token_text.astype(str))
    return ~np.isin(lower, list(FUNCTION_WORDS)) & (lower != "")


def whole_words(token_text: np.ndarray, token_word: np.ndarray | None = None) -> np.ndarray:
    """For each token (n, tokens) the whole word that it is a piece of; ``token_word``, of ``explain``, None for whole words.

    Examples
    --------
    >>> whole_words(np.array([["a", "cy", "an"]]), np.array([[0, 1, 1]])).tolist()
    [['a', 'cyan', 'cyan']]
    """
    if token_word is None:
        return token_text
    whole = [
        ["".join(text[place == each]) for each in place] for text, place in zip(token_text, token_word, strict=True)
    ]
    return np.where(token_word < 0, "", np.array(whole, dtype=object)).astype(str)


class Word(NamedTuple):
    """A word and the first and the last of its tokens."""

    text: str
    first: int
    last: int

    @property
    def tokens(self) -> slice:
        return slice(self.first, self.last + 1)


def group_words(tokens: Sequence[str]) -> list[Word]:
    """The words that decoded tokens make up, in order; every token belongs to one.

    A word begins at the first token, at English punctuation (a run of it only where ASCII lists it so, as the released
    code does), at a character of Chinese, Japanese or Korean, and at a token that begins with a space or with "▁".
    Source: Li et al., Token Activation Map, 2025, released evaluation; there tokens come from text tokenised anew.
    """
    words: list[Word] = []
    for place, token in enumerate(tokens):
        bare = token.replace("▁", "").replace(" ", "")
        if place == 0 or token[:1] in ("", " ", "▁") or bare in string.punctuation or _is_cjk(bare):
            words.append(Word(bare, place, place))
        else:
            words[-1] = Word(words[-1].text + bare, words[-1].first, place)
    return words


def _is_cjk(text: str) -> bool:
    return any("CJK" in unicodedata.name(letter, "") for letter in text)


def word_kind(word: str, tagger: Tagger | None = None) -> str:
    """Kind of a word by its tag alone: "noun", "function" or "other".

    Without a tagger "function" for the words of ``CLOSED_CLASS_WORDS`` and else "other", as nouns are no closed class.
    """
    if tagger is None:
        return "function" if word.lower().replace("’", "'") in CLOSED_CLASS_WORDS else "other"
    tag = tagger(word)
    return "function" if tag in FUNCTION_TAGS else "noun" if tag in NOUN_TAGS else "other"


def base_forms(word: str, lemmatiser: Lemmatiser | None = None) -> frozenset[str]:
    """The forms under which a noun is compared: in lower case, without hyphens, and with a lemmatiser its one lemma.

    Without one also every singular that its ending may stand for (the rules of WordNet's morphy, which asks its
    dictionary which of them exist; the list of categories takes that part here).
    """
    plain = word.lower().replace("-", "")
    if lemmatiser is not None:
        return frozenset([lemmatiser(plain)])
    singulars = {plain[: -len(end)] + new for end, new in _ENDINGS.items() if plain.endswith(end) and plain != end}
    return frozenset({plain, _IRREGULAR.get(plain, plain)} | singulars)


def category_labels(
    words: Sequence[str], categories: Mapping[str, int], lemmatiser: Lemmatiser | None = None
) -> list[int]:
    """The label of the category that each word names or helps to name, 0 for none: whole names only, the longest first.

    In "a hot dog and a dog" the second dog is a dog. Categories of one spelling: the first counts.
    """
    forms = [base_forms(word, lemmatiser) for word in words]
    labels = [0] * len(words)
    for name, label in sorted(categories.items(), key=lambda item: -len(item[0].split())):
        parts = [base_forms(part, lemmatiser) for part in name.split()]
        for start in range(len(words) - len(parts) + 1):
            span = range(start, start + len(parts))
            if parts and all(labels[i] == 0 and forms[i] & part for i, part in zip(span, parts, strict=True)):
                for i in span:
                    labels[i] = label
    return labels


def spoken_words(token_text: np.ndarray) -> np.ndarray:
    """``whole_words`` of decoded tokens, with a blank before those that start a word.

    Examples
    --------
    >>> spoken_words(np.array([["a", " cy", "an", ",", " ring"]])).tolist()
    [['a', 'cyan', 'cyan', ',', 'ring']]
    """
    words, place = _grouped(token_text)
    return np.where(place < 0, "", np.take_along_axis(words, np.maximum(place, 0), 1)).astype(str)


def _grouped(token_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words (n, most words) that tokens make up, and the word of each token (n, tokens), -1 after a text's end."""
    token_text = np.asarray(token_text).astype(str)
    grouped = [group_words([text for text in row if text != ""]) for row in token_text]
    words = np.full((len(grouped), max(map(len, grouped), default=0)), "", dtype=object)
    place = np.full(token_text.shape, -1)
    for row, found in enumerate(grouped):
        for index, word in enumerate(found):
            words[row, index], place[row, word.tokens] = word.text, index
    return words, place


def name_tokens(token_text: np.ndarray, scenes: xr.Dataset) -> xr.Dataset:
    """``name_objects`` for tokens of any kind: all tokens of a word get what the word names.

    token_text : (n, tokens) decoded tokens, with a blank before those that start a word, "" after a text's end.
    """
    words, place = _grouped(token_text)
    named = name_objects(words, scenes)
    spread = {
        name: (values.dims, np.where(place < 0, padding, np.take_along_axis(values.values, np.maximum(place, 0), 1)))
        for (name, values), padding in zip(named.data_vars.items(), (PADDING, ""), strict=True)
    }
    return xr.Dataset(spread, {"sample": scenes.sample})


def image_shares(answers: xr.Dataset, sample: int = 0, explainer: str | None = None) -> pd.DataFrame:
    """Which image each word of an answer looks at: a row a word, in order, a column an image, each word's shares adding up to 1.

    answers : of ``explain_tokens`` with ``messages``. explainer : whose maps; None where there is only one. A share is of the mean
    heat of an image's cells, positive heat only, so that an image with more tokens counts no more; words without heat are
    NaN. Raises ValueError for answers about one image alone, and a sample or an explainer that there isn't.

    Examples
    --------
    >>> parts = [{"type": "image", "image": image} for image in xk.draw_descriptions(2, seed=1).image.values]
    >>> asked = {"role": "user", "content": [*parts, {"type": "text", "text": "what is this"}]}
    >>> answers = xk.explain_tokens(xk.load_mllm(), messages=[asked], method="attention")
    >>> image_shares(answers).columns.tolist()
    [0, 1]
    """
    if "image" not in answers.token_heat.dims:
        raise ValueError("the answers are about one image each: only conversations with several have shares")
    check_whole(0, answers.sizes["sample"] - 1, sample=sample)
    answers = by_explainer(answers, several=True)
    names = answers.explainer.values.tolist()
    if explainer is None and len(names) == 1:
        explainer = names[0]
    check_choices(explainer=(explainer, names))
    one = answers.isel(sample=sample).sel(explainer=explainer)
    grids = one.grid.values
    grids = grids[grids.prod(1) > 0]
    heat = one.token_heat.clip(min=0).sum(("row", "col")).values[: len(grids)] / grids.prod(1)[:, None]
    words = group_words([text for text in one.answer_text.values if text != ""])
    by_word = np.array([heat[:, word.tokens].sum(1) for word in words]).reshape(len(words), len(grids))
    total = by_word.sum(1, keepdims=True)
    shares = np.divide(by_word, total, out=np.full_like(by_word, np.nan), where=total > 0)
    return pd.DataFrame(shares, [word.text for word in words], pd.RangeIndex(len(grids), name="image"))
