"""What benchmarks/train.py is made of: shapes, contestants, the machine's peak, rounds, memory and the table."""
