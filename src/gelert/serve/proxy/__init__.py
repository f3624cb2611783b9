"""A guarded endpoint that agents use as their model: what the model answers is held until the guard has decided."""
