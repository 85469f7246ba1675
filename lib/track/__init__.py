"""The tracker contract (`protocol`), what trackers share, and a session for one video."""
