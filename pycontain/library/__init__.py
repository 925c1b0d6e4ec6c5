"""
Containers from a Python program: what `import pycontain` offers.

    run        `run`, `run_async`, `stream`
    container  `Container`
    arguments  checks of what callers pass
    call       one program in a container, from the request to its end
    streams    a program's standard streams
    stream     output to iterate over
    lines      dividing output into lines
    closing    the blocks of `with` and `async with`
    cancel     time limits, and ending a call from another thread
    aio        calls in asyncio tasks
    pool       warm workers, from the program's side
    process    a process that a worker has created
    forks      what a forked child of the program must not share
    worker     a worker itself: the other end of the socket
    messages   the messages on the socket

The program itself never forks. Its first call starts a worker, which takes as long as starting
Python; after that, a container takes a few milliseconds, in programs with threads, too. A worker
serves one call at a time, and has finished when the program runs.
"""
