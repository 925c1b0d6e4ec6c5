"""The integration machine: a Linux with cgroup v2, systemd and KVM, built and booted here."""
