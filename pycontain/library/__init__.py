"""
Containers from a Python program: what `import pycontain` offers.

    container  `run`, `Container`
    result     `Result`: how a program ended
    pipes      a program's standard streams
    pool       warm workers, as the program holds them
    worker     a worker itself: the other end of the socket
    messages   what goes over the socket

The program itself never forks. Its first call starts a worker, which costs as much as starting
Python; from then on a container costs some milliseconds, in programs with threads too. Calls from
several threads at once use as many workers.
"""
