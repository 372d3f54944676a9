"""Finds engines by name: GPAW, or a class of an installed module."""

from mattergen_lite.dft.engine import Engine
from mattergen_lite.dft.gpaw import Gpaw
from mattergen_lite.plugins import import_object


def find_engine(name: str) -> Engine:
    """Return the engine of a name.

    Args:
        name: "gpaw", or module:Class of an installed module, whose class is an `Engine`.

    Raises:
        ValueError: If there is no such class, or it is no engine.
    """
    if name == "gpaw":
        return Gpaw()
    try:
        engine = import_object(name)()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"engine {name!r}: expected gpaw, or module:Class of an installed module ({error})"
        ) from None
    if not isinstance(engine, Engine):
        renamed = "; scale is now called versions" if hasattr(engine, "scale") else ""
        raise ValueError(
            f"engine {name!r} is no engine: expected what dft.engine.Engine has{renamed}"
        )
    return engine
