"""Infrastructure of a long-running process: job loop, leader election, bounded calls, backoff, logs, progress bars."""
