"""What each training run adds to a guard's verdicts on target runs: one question, several answers and their floors."""
