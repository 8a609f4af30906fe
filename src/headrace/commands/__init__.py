"""The command line: one file a verb, and the only place that reads the environment and puts the pieces together."""
