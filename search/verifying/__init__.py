"""What ``verify`` measures, one kind of figure a file. Nothing is imported here: the timing of raw inputs runs in a process without torch."""
