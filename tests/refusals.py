"""What is wrong is answered in one sentence."""

import pytest


def refused(says, call, /, *given, **options):
    """Make sure that the call raises a ValueError of one line that matches."""
    with pytest.raises(ValueError, match=says) as caught:
        call(*given, **options)
    assert "\n" not in str(caught.value)
