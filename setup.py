"""Package discovery: the top-level folder ``planner`` is installed as ``anatomad.planner``.

Everything else about the project stands in pyproject.toml. Nothing is compiled and torch is not needed to build.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["anatomad", "anatomad.*"]), "anatomad.planner"],
    package_dir={"anatomad.planner": "planner"},
    package_data={"anatomad": ["py.typed"], "anatomad.preprocess": ["data/*"]},
    include_package_data=False,
)
