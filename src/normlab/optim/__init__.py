"""Optimizers, parameter groups, gradient clipping and schedules."""
