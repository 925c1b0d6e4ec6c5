"""
How a container's first process is made: the parent's side of a plan.

    launch      what the parent's steps share, and the undo of each
    steps       the parent's steps, one function each
    bring_up    the walk through the plan, which ends with the program running or with all undone
    fork        a child with memory of its own
    vfork       a child that shares this process's memory until execve
    recover     what this process becomes when such a child is killed half-way

The child's side is `pycontain.init`.
"""
