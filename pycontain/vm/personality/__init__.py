"""Linux as a program sees it, served by the monitor: one module a group of system calls."""
