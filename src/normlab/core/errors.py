"""Errors that a user can mend. Each is one line: what must hold, what came, what to type."""


class UserError(ValueError):
    """Wrong input: the program says the line and exits with code 2, without a traceback."""


class ConfigError(UserError):
    """A configuration value, key or combination that is not legal."""


class DataError(UserError):
    """A corpus, tokenizer or token file that cannot be used as it is."""


class CheckpointError(UserError):
    """A run folder or checkpoint that is missing, incomplete or altered."""
