"""What stands in an exported folder beside the copied modules of ``normlab.model``. Imports become relative there."""
