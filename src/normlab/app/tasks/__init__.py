"""What the program can be asked to do: one module a task, each named by a YAML in conf/task."""
