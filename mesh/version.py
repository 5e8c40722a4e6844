"""Which version of the product this is, as its package says, and in which form."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def product_version() -> str:
    """Return the version; `0` where the code runs without having been installed."""
    try:
        return version("meshnode")
    except PackageNotFoundError:
        return "0"


def form() -> str:
    """Return "compiled" if the modules that a job passes through are, else "plain Python": that takes longer for it."""
    codec = find_spec("mesh.wire.codec")
    is_library = codec is not None and codec.origin is not None and codec.origin.endswith(tuple(EXTENSION_SUFFIXES))
    return "compiled" if is_library else "plain Python"
