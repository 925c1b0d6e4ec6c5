"""
How a container's first process is created: the parent's side of a plan.

    launch      what the parent's steps share, and how to undo them
    steps       the parent's steps, one function each
    bring_up    carries out the plan; ends with the program running or everything undone
    child       the first process, and what both ways to make it have in common
    inside      the process that a child creates in a pid namespace that others are in
    fork        a child with memory of its own
    vfork       a child that shares this process's memory until execve
    recover     the program that this process executes if such a child is killed half-way

The child's side is `pycontain.init`.
"""
