"""Reads agent logs and judges them; the public half of Gelert."""
