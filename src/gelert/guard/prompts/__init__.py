"""What a guard's model is shown, byte for byte."""
