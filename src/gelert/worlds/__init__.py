"""Simulated tool worlds for agents: finite state, tools as data, harm and success read off the state."""
