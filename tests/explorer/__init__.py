"""The explorer without a browser: its state, views and tabs."""
