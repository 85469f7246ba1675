"""Filters that are learned while tracking."""

from lib.models.online.filter import FilterInitializer, SteepestDescent, adjoint_filter, apply_filter
