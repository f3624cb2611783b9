"""The nouns that every other package speaks in; standard library and pydantic only."""
