"""The commands. Each file without a leading underscore is one, to be started as `python tracking/<name>.py`."""
