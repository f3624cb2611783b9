"""What stands between a runtime's hooks and the engine: the hook's own command, and the door that it knocks at."""
