"""Linux as a program sees it, served by the monitor: one module per group of system calls."""
