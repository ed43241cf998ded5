"""Packed sweeps: runs whose models have one structure train as one program."""
