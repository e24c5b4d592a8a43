"""How ``make book`` builds a static site of the executed notebooks and of what the package's functions say of themselves."""

import re

from docutils import nodes
from latex2mathml.converter import convert

project, language = "xaikit", "en"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
nb_execution_mode = "off"  # the notebooks are executed, and their numbers checked, before
myst_enable_extensions = ["dollarmath"]
autodoc_default_options = {"members": True, "imported-members": True}
html_theme, html_title = "sphinx_book_theme", "xaikit"
html_math_renderer = "mathml"  # MathJax would be fetched from elsewhere

ARGUMENT = re.compile(r"([\w*`][\w*`, ]*) : ")  # as docstrings list them, and what follows
CODE = re.compile(r"(``.*?``)")


def in_mathml(self, node):
    """A formula as browsers draw it themselves."""
    self.body.append(convert(node.astext(), display="block" if isinstance(node, nodes.math_block) else "inline"))
    raise nodes.SkipNode


def in_restructured_text(app, what, name, thing, options, lines):
    """A docstring's arguments as a list of fields, its headings as rubrics, its signs as they stand."""
    text, listed, prompt = [], False, False
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        prompt = line.startswith(">>>") or (prompt and bool(line.strip()))
        if prompt or not line.strip():
            text.append(line)
        elif set(after) == {"-"}:
            text += [] if line == "Parameters" else [f".. rubric:: {line}", ""]
        elif set(line) != {"-"}:
            named = ARGUMENT.match(line)
            parts = CODE.split(f"    {line[named.end() :]}" if named else line)
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            apart = bool(named) != listed if not line.startswith(" ") else line.strip().startswith("- ")
            text += [""] * apart + ([f"``{named[1]}``"] if named else []) + ["".join(parts)]
            listed = bool(named) or (listed and line.startswith(" "))
    lines[:] = text


def setup(app):
    """Register the formulas and the docstrings."""
    app.add_html_math_renderer("mathml", (in_mathml, None), (in_mathml, None))
    app.connect("autodoc-process-docstring", in_restructured_text)
