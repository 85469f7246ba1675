"""Command-line options that every command has which reads an experiment."""

from __future__ import annotations

import argparse


def add_experiment_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--set KEY=VALUE ...` (argument `overrides`) and `--plugin FOLDER` (argument `plugins`), both repeatable."""
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override keys of the configuration, such as TRAIN.LR=1e-4; may be repeated",
    )
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of a method from outside this tree; may be repeated",
    )


def add_engine_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--engine NAME` and `--calibration DATASET`."""
    parser.add_argument(
        "--engine",
        default="torch",
        metavar="NAME",
        help="who computes the network: torch (default), onnx, openvino, or in 8 bits onnx-int8, openvino-int8, which "
        "need --protocol fast",
    )
    parser.add_argument(
        "--calibration",
        default="",
        metavar="DATASET",
        help="data set, as in DATASETS_NAME of a configuration, that ranges of 8-bit numbers are taken from "
        "(default: procedural sequences)",
    )
