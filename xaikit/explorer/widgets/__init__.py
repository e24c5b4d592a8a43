"""The three things that ipywidgets lacks: pictures, words and tables whose parts are buttons, by mouse and by keyboard."""

from .picture import Picture
from .table import TableView
from .words import Words
