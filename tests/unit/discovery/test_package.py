"""The package's own file, `__init__.py`."""

import pytest

import meshdiscovery


@pytest.mark.parametrize("name", meshdiscovery.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(meshdiscovery, name) is not None
    assert name in dir(meshdiscovery)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        meshdiscovery.nonsense  # noqa: B018
