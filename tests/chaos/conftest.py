"""The whole systems of tests/e2e."""

from tests.e2e.conftest import home, module_home, module_system

__all__ = ["home", "module_home", "module_system"]
