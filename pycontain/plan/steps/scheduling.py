"""The steps for CPU and I/O scheduling, and the execution domain."""

from __future__ import annotations

from .base import ParentStep, Step


class SetAffinity(Step):
    """The CPUs it runs on from now on; sched_setaffinity(2)."""

    name = "affinity"
    cpus: tuple[int, ...]

    def what(self) -> str:
        return f"run on CPUs {', '.join(map(str, self.cpus))}"


class SetScheduler(Step):
    """CPU scheduling; times in nanoseconds."""

    name = "scheduler"
    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int

    def what(self) -> str:
        return f"set scheduling policy {self.policy}"


class SetIoPriority(Step):
    """I/O scheduling."""

    name = "io priority"
    priority: int

    def what(self) -> str:
        return f"set I/O priority {self.priority:#x}"


class SetPersonality(Step):
    """The execution domain."""

    name = "personality"
    persona: int

    def what(self) -> str:
        return f"set personality {self.persona:#x}"


class SetSchedulerOutside(ParentStep):
    """
    CPU scheduling of a process that was created with its final capabilities.

    It cannot be inherited: policies can be reset on fork, and SCHED_DEADLINE always is (sched(7)).
    """

    name = "scheduler"
    wanted: SetScheduler

    def what(self) -> str:
        return self.wanted.what()
