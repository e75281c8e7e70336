"""What a provider refuses unless it says how."""

from __future__ import annotations

import re

import pytest

from provision import providers
from provision.core.errors import ProviderError
from tests.unit.samples import context


@pytest.mark.parametrize("name", ["vagrant", "ssh", "incus"])
def test_a_provider_without_spares_refuses_them(name: str) -> None:
    lab = context("distributed").lab
    refusal = re.escape(f"provider {name} has no spares: a restore boots the machines")
    with pytest.raises(ProviderError, match=refusal) as refused:
        providers.provider(name).prepare_spare(lab, "good", {}, {}, lambda _machine, _text: None)
    assert refused.value.hint == "leave out --spare"
