"""What benchmarks/many_devices.py is made of: the model of costs, collectives by themselves, the plan on paper."""
