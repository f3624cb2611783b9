"""Ways to ask a model: locally, through an OpenAI-compatible endpoint, or from a script."""
