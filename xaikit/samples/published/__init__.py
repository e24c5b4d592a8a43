"""Published datasets, a layout a file: NAME.py holds ``open_NAME(folder, split)`` of the layout "NAME", dashes for underscores."""
