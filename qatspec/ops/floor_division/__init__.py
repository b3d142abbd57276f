"""Division of integers that rounds down."""
