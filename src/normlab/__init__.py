"""A laboratory for the stability of language model training.

Imports point one way: app -> report | train -> autopsy -> telemetry -> data | model | optim -> core.
"""
