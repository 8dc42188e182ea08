"""Tests mirror the package; what several of them use is in `support`."""

import pytest

pytest.register_assert_rewrite("tests.support")
