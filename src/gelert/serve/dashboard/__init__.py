"""One page that shows what the service decides while it decides it; people answer, label and export there."""
