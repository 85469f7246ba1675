"""Command-line options for overrides of a configuration."""

from __future__ import annotations

import argparse


def add_experiment_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add `--set KEY=VALUE ...` and `--plugin FOLDER`, both repeatable.

    Args:
        parser: Receives the options, as `overrides` and `plugins`.
    """
    add = parser.add_argument
    text = "override keys of the configuration, such as TRAIN.LR=1e-4; may be repeated"
    add("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=text)
    add_plugin_option(parser)


def add_plugin_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add `--plugin FOLDER`, repeatable.

    Args:
        parser: Receives the option, as `plugins`.
    """
    text = "folder with a method, part, benchmark or metric from outside this tree; may be repeated"
    parser.add_argument("--plugin", dest="plugins", action="append", default=[], metavar="FOLDER", help=text)
