"""The package's extras: what only its wings need, and the sentence that says so where it isn't installed."""

from collections.abc import Callable

import lazy_loader

EXTRAS = {  # a module that the core does without, and the extra of the package that brings it
    "ipywidgets": "explorer",
    "anywidget": "explorer",
    "voila": "explorer",
    "distributed": "sweep",
    "cryptography": "sweep",
    "transformers": "mllm",
}


def attach_stub(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``lazy_loader.attach_stub``, whose names say which extra they need where a module of one isn't installed."""
    find, names, every = lazy_loader.attach_stub(package, file)

    def found(name: str) -> object:
        try:
            return find(name)
        except ModuleNotFoundError as error:
            if extra := EXTRAS.get(str(error.name).partition(".")[0]):
                raise ModuleNotFoundError(needs(error.name, extra), name=error.name) from error
            raise

    return found, names, every


def needs(module: str, extra: str) -> str:
    """That a module isn't installed, and how it is."""
    return f"there is no module {module} here: it is installed with: pip install 'xaikit[{extra}]'"
