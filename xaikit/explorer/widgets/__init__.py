"""What ipywidgets lacks: pictures, words and tables whose parts are buttons, by mouse and by keyboard, and large uploads."""

from .picture import Picture
from .table import TableView
from .upload import Upload
from .words import Words
