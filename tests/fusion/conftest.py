"""A norm in each spelling that the forms tell apart."""

from __future__ import annotations

import pytest

from .spellings import SPELLINGS


@pytest.fixture(params=SPELLINGS)
def spelling(request):
    """The name of the spelling."""
    return request.param


@pytest.fixture
def spelled(spelling, build):
    """The model of the spelling."""
    body, options = SPELLINGS[spelling]
    return build(body, **options)
