"""Worlds for other people's trainers and harnesses; each bridge imports its library only when it is used."""
