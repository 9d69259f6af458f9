"""What a long-running process stands on: the job loop, calls with a time limit, backoff, logs, progress bars."""
