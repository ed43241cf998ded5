"""What is observed and where it is written. Observers leave no trace in the numbers."""
