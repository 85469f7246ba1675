"""Filters that are learned while tracking."""

from lib.models.online.filter import FilterInitializer, Learned, SteepestDescent, adjoint_filter, apply_filter
