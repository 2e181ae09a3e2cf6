"""What every other part builds on."""
