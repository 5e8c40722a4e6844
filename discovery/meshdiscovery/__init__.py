"""Who is there: records of nodes, found by mDNS/DNS-SD or named as seeds.

The public names load when first used (PEP 562), so that reading a record or a seed never imports
zeroconf; it knows nothing of `mesh` and `meshnode`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshdiscovery.addresses import Addresses, announced_addresses, local_addresses
    from meshdiscovery.directory import Change, Changed, Directory, Found, Lost
    from meshdiscovery.mdns import Announcer, Browser, interfaces
    from meshdiscovery.record import SERVICE_TYPE, BadRecord, Record, from_txt, to_txt
    from meshdiscovery.seeds import DEFAULT_PORT, Seed, SeedError, parse_seed, resolve

__all__ = [
    "DEFAULT_PORT",
    "SERVICE_TYPE",
    "Addresses",
    "Announcer",
    "BadRecord",
    "Browser",
    "Change",
    "Changed",
    "Directory",
    "Found",
    "Lost",
    "Record",
    "Seed",
    "SeedError",
    "announced_addresses",
    "from_txt",
    "interfaces",
    "local_addresses",
    "parse_seed",
    "resolve",
    "to_txt",
]

_HOMES = {
    "addresses": ("Addresses", "announced_addresses", "local_addresses"),
    "directory": ("Change", "Changed", "Directory", "Found", "Lost"),
    "mdns": ("Announcer", "Browser", "interfaces"),
    "record": ("SERVICE_TYPE", "BadRecord", "Record", "from_txt", "to_txt"),
    "seeds": ("DEFAULT_PORT", "Seed", "SeedError", "parse_seed", "resolve"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
