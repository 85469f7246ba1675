"""Methods: one folder each, made of shared parts; found by name."""

from lib.methods.data import DataParts, clip_data, crop_data
from lib.methods.experiment import Experiment, load_experiment, load_plugins
from lib.methods.method import METHODS, Method, register_method
from lib.methods.recipe import Recipe, resolve
