"""Which version of the product this is, as its package says."""

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """Return the version; `0` where the code runs without having been installed."""
    try:
        return version("meshnode")
    except PackageNotFoundError:
        return "0"
