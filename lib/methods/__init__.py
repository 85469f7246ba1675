"""Methods: one folder each, made of shared parts; found by name."""

from lib.methods.experiment import Experiment, load_experiment
from lib.methods.method import METHODS, Method, register_method

__all__ = ["METHODS", "Experiment", "Method", "load_experiment", "register_method"]
