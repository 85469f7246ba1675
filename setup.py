"""Packages of a wheel; everything else is in pyproject.toml.

Configurations and the small trained network stand at the root of a checkout; in a wheel they lie inside `unitrack`,
where `lib.paths.shipped_folder` finds them.
"""

from setuptools import find_packages, setup

SHIPPED = {"unitrack.experiments": "experiments", "unitrack.pretrained": "pretrained"}

setup(
    packages=[*find_packages(include=["lib*", "synthetic*", "unitrack*"]), *SHIPPED],
    package_dir=SHIPPED,
    include_package_data=False,
    package_data={
        "lib": ["*.yaml"],
        "lib.bench": ["*.yaml", "templates/*"],
        "lib.bench.benchmarks": ["*.yaml"],
        "lib.bench.metrics": ["*.yaml"],
        "lib.bench.report": ["*.json", "*.yaml", "templates/*"],
        "lib.data.lists": ["*.json"],
        "lib.train": ["assets/*"],
        "lib.viz": ["assets/*"],
        "synthetic": ["*.yaml"],
        "unitrack.experiments": ["*/*.yaml"],
        "unitrack.pretrained": ["*.json", "*.safetensors"],
    },
)
