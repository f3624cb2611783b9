"""Makes guards: trains, calibrates and packs them."""
