"""The isolated processes of `processes`, by the name under which criteria ask for them."""

from mattergen_lite.processes import Failure, Pool, attempt, available_cores

__all__ = ["Failure", "Pool", "attempt", "available_cores"]
