"""The tests, laid out like the package; ``tests.loopback`` is the one server they share."""
