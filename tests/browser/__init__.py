"""The explorer in a real browser; a package, so that its fixtures end with it, before other tests start event loops of their own."""
