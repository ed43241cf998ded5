"""What every other layer may use: errors, value types, seeding, records, the run folder. Standard library only."""
