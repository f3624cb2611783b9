"""The loopback server, for these tests."""

from tests.loopback import loopback

__all__ = ["loopback"]
