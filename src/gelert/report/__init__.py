"""One self-contained HTML page of trajectories and diagnoses."""
